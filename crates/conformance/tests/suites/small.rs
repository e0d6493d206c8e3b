//! What implements no more than a trait asks for, and what breaks one promise of a source or an encryptor.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use lifeboat_conformance::{encryptor, sink, source};
use lifeboat_core::encryptor::Age;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::sink::{Deleted, Upkeep};
use lifeboat_core::stream::collect;
use lifeboat_core::{
    ByteStream, Context, Description, Encryptor, Error, ErrorKind, Estimate, ObjectInfo, Reading, Result, Sink, Source,
    Tap, async_trait,
};

use crate::found;

/// The methods that a sink has to implement, and none of the others.
#[derive(Debug, Default)]
struct Small {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Whether it has an upkeep, in which every method has its default.
    upkeep: Option<Defaults>,
}

#[derive(Debug)]
struct Defaults;

impl Upkeep for Defaults {}

impl Small {
    fn find(&self, key: &str) -> Result<Bytes> {
        let wrong = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c.is_ascii_control());
        if key.split('/').any(wrong) {
            return Err(Error::new(ErrorKind::Config, "use", format!("{key:?}"), "it is no key"));
        }
        let missing = || Error::new(ErrorKind::NotFound, "read", key, "there is none");
        self.objects.lock().unwrap().get(key).cloned().ok_or_else(missing)
    }

    fn info(key: &str, body: &Bytes) -> ObjectInfo {
        // A clock in whole seconds.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        ObjectInfo::new(key, body.len() as u64, now)
    }
}

#[async_trait]
impl Sink for Small {
    fn url(&self) -> String {
        "small:".to_owned()
    }

    fn read_command(&self, key: &str) -> String {
        format!("small-cat '{key}'")
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        let taken = || Error::new(ErrorKind::AlreadyExists, "write", key, "it is taken");
        match self.find(key) {
            Ok(_) => return Err(taken()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let body = collect(body, 1 << 30, key).await?;
        let bytes = body.len() as u64;
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key) {
            return Err(taken());
        }
        objects.insert(key.to_owned(), body);
        Ok(bytes)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let body = self.find(key)?;
        let range = range.unwrap_or(0..u64::MAX);
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(body.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        Ok(lifeboat_core::stream::once(body.slice(start..end)))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        Ok(Self::info(key, &self.find(key)?))
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        let hidden = |key: &str| key.find("_lifeboat/").is_some_and(|at| !prefix.starts_with(&key[..at + 10]));
        let objects = self.objects.lock().unwrap();
        let listed = objects.iter().filter(|(key, _)| key.starts_with(prefix) && !hidden(key));
        stream::iter(listed.map(|(key, body)| Ok(Self::info(key, body))).collect::<Vec<_>>()).boxed()
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        for key in keys {
            match self.find(key) {
                Err(error) if error.kind() == ErrorKind::Config => {
                    deleted.failed.push((key.clone(), error.to_string()));
                }
                _ => {
                    self.objects.lock().unwrap().remove(key);
                    deleted.keys.push(key.clone());
                }
            }
        }
        Ok(deleted)
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        self.upkeep.as_ref().map(|upkeep| upkeep as &dyn Upkeep)
    }
}

#[tokio::test]
async fn a_sink_of_required_methods_alone_passes() {
    sink::all(&Small::default()).await;
    sink::all(&Small { upkeep: Some(Defaults), ..Small::default() }).await;
}

/// How a source behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    /// It has no name of its own, no structure, and looks at no cancellation.
    Small,
    /// When it is cancelled, it ends as if that were all.
    EndsWhenCancelled,
    /// It counts its readings.
    Counts,
    /// Its tap says the same of everything.
    ProvesNothing,
    /// Its format cannot be in a name.
    NoFormat,
    /// It says about how much it gives.
    Estimates(u64),
}

struct Numbers(Behaviour, Mutex<u64>);

struct Constant;

impl Tap for Constant {
    fn push(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<lifeboat_core::Proof> {
        Box::new(WholeStream::new("numbers")).finish()
    }
}

#[async_trait]
impl Source for Numbers {
    async fn describe(&self) -> Result<Description> {
        Ok(Description::new("numbers", if self.0 == Behaviour::NoFormat { "a/b" } else { "txt" }))
    }

    async fn estimate(&self) -> Result<Option<Estimate>> {
        Ok(if let Behaviour::Estimates(bytes) = self.0 { Some(Estimate::new(bytes)) } else { None })
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let (behaviour, cancel) = (self.0, cx.cancel.clone());
        let mut readings = self.1.lock().unwrap();
        *readings += u64::from(behaviour == Behaviour::Counts);
        let first = *readings;
        let ends =
            move |_: &u64| std::future::ready(behaviour != Behaviour::EndsWhenCancelled || !cancel.is_cancelled());
        let chunks = stream::iter(first..first + 200_000).take_while(ends).map(|n| Ok(format!("{n}\n").into()));
        let tap: Box<dyn Tap> = match behaviour {
            Behaviour::ProvesNothing => Box::new(Constant),
            _ => Box::new(WholeStream::new("numbers")),
        };
        Ok(Reading::new(chunks.boxed(), tap))
    }
}

fn numbers(behaviour: Behaviour) -> Numbers {
    Numbers(behaviour, Mutex::default())
}

#[tokio::test]
async fn a_source_without_name_and_structure_passes() {
    source::all(&numbers(Behaviour::Small)).await;
    source::all(&numbers(Behaviour::Estimates(1 << 20))).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_found() {
    for (behaviour, says) in [
        (Behaviour::EndsWhenCancelled, "ends as if complete"),
        (Behaviour::Counts, "left == right"),
        (Behaviour::ProvesNothing, "the proof of the whole"),
        (Behaviour::NoFormat, "no name can end"),
        (Behaviour::Estimates(100), "about 100 bytes were to come"),
    ] {
        let said = found(async move { source::all(&numbers(behaviour)).await }).await;
        assert!(said.contains(says), "{behaviour:?}: {said}");
    }
}

/// What is wrong with an encryptor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// Its suffix is one of a format.
    Suffix,
    /// It does not know what it has written.
    KnowsNothing,
    /// It takes everything for its own.
    KnowsAll,
    /// It says that it can decrypt, and cannot.
    SaysItCan,
    /// It takes an error for the end.
    Deaf,
}

#[derive(Debug)]
struct Wrong(Age, Flaw);

impl Encryptor for Wrong {
    fn scheme(&self) -> &'static str {
        "other"
    }
    fn suffix(&self) -> &'static str {
        if self.1 == Flaw::Suffix { "other" } else { "enc-other" }
    }
    fn recognises(&self, start: &[u8]) -> bool {
        match self.1 {
            Flaw::KnowsNothing => false,
            Flaw::KnowsAll => true,
            _ => start.starts_with(b"OTHER"),
        }
    }
    fn can_decrypt(&self) -> bool {
        self.0.can_decrypt() || self.1 == Flaw::SaysItCan
    }
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        let plaintext = match self.1 {
            Flaw::Deaf => plaintext.take_while(|item| std::future::ready(item.is_ok())).boxed(),
            _ => plaintext,
        };
        let magic = stream::iter([Ok(Bytes::from_static(b"OTHER"))]);
        Ok(magic.chain(self.0.encrypt(plaintext)?).boxed())
    }
    fn decrypt(&self, mut ciphertext: ByteStream) -> Result<ByteStream> {
        let magic = async move {
            let mut seen = 0;
            while let Some(item) = ciphertext.next().await {
                let Ok(mut chunk) = item else { return stream::iter([item]).chain(ciphertext).boxed() };
                let skip = (5 - seen).min(chunk.len());
                bytes::Buf::advance(&mut chunk, skip);
                seen += skip;
                if seen == 5 {
                    return stream::iter([Ok(chunk)]).chain(ciphertext).boxed();
                }
            }
            stream::empty().boxed()
        };
        self.0.decrypt(stream::once(magic).flatten().boxed())
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_encryptor_is_found() {
    for (flaw, says) in [
        (Flaw::Suffix, "does not say that it is encrypted"),
        (Flaw::KnowsNothing, "does not know its own"),
        (Flaw::KnowsAll, "for its own"),
        (Flaw::SaysItCan, "Decrypt"),
        (Flaw::Deaf, "unwrap_err"),
    ] {
        let (secret, public) = Age::generate();
        let reader = Wrong(Age::default().identities(&secret, "key").unwrap(), flaw);
        let writer = Wrong(Age::to([public]).unwrap(), flaw);
        let reads = if flaw == Flaw::SaysItCan { Wrong(Age::default(), flaw) } else { reader };
        let said = found(async move { encryptor::all(&writer, &reads).await }).await;
        assert!(said.contains(says), "{flaw:?}: {said}");
    }
}
