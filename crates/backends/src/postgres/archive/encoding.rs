//! The encodings of the text in a table of contents: names and statements are converted to UTF-8 from the database's
//! encoding.

use encoding_rs::Encoding;

use super::toc::{Toc, TocEntry};

/// How text is decoded.
#[derive(Clone, Copy)]
enum Decoder {
    /// Each byte is a character of its own number.
    Latin1,
    Table(&'static Encoding),
}

/// The server's names of its encodings (`pg_enc2name_tbl` in encnames.c), and the labels of the Encoding Standard. Text
/// in encodings without a label there (EUC_TW, JOHAB, MULE_INTERNAL) is not converted, nor is SQL_ASCII, which is not
/// an encoding.
const LABELS: [(&str, &str); 33] = [
    ("BIG5", "big5"),
    ("EUC_CN", "gb18030"),
    ("EUC_JIS_2004", "euc-jp"),
    ("EUC_JP", "euc-jp"),
    ("EUC_KR", "euc-kr"),
    ("GB18030", "gb18030"),
    ("GBK", "gbk"),
    ("ISO_8859_5", "iso-8859-5"),
    ("ISO_8859_6", "iso-8859-6"),
    ("ISO_8859_7", "iso-8859-7"),
    ("ISO_8859_8", "iso-8859-8"),
    ("KOI8R", "koi8-r"),
    ("KOI8U", "koi8-u"),
    ("LATIN10", "iso-8859-16"),
    ("LATIN2", "iso-8859-2"),
    ("LATIN3", "iso-8859-3"),
    ("LATIN4", "iso-8859-4"),
    ("LATIN5", "iso-8859-9"),
    ("LATIN6", "iso-8859-10"),
    ("LATIN7", "iso-8859-13"),
    ("LATIN8", "iso-8859-14"),
    ("LATIN9", "iso-8859-15"),
    ("SJIS", "shift_jis"),
    ("UHC", "euc-kr"),
    ("WIN1250", "windows-1250"),
    ("WIN1251", "windows-1251"),
    ("WIN1252", "windows-1252"),
    ("WIN1253", "windows-1253"),
    ("WIN1254", "windows-1254"),
    ("WIN1255", "windows-1255"),
    ("WIN1256", "windows-1256"),
    ("WIN1257", "windows-1257"),
    ("WIN866", "ibm866"),
];

fn decoder(name: &str) -> Option<Decoder> {
    if name == "LATIN1" {
        return Some(Decoder::Latin1);
    }
    let (_, label) = LABELS.iter().find(|(known, _)| *known == name)?;
    Encoding::for_label(label.as_bytes()).map(Decoder::Table)
}

impl Decoder {
    /// The text in UTF-8. `None` if it is not valid in the encoding.
    fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Latin1 => Some(bytes.iter().copied().map(char::from).collect()),
            Self::Table(encoding) => {
                encoding.decode_without_bom_handling_and_without_replacement(bytes).map(std::borrow::Cow::into_owned)
            }
        }
    }
}

/// Converts the text of a table of contents to UTF-8 as far as possible. The rest is unchanged.
pub(super) fn to_utf8(toc: &mut Toc) {
    let Some(decoder) = toc.encoding().and_then(|name| decoder(&name)) else { return };
    for entry in &mut toc.entries {
        let TocEntry { tag, defn, drop_stmt, copy_stmt, namespace, tablespace, owner, .. } = entry;
        for text in [tag, defn, drop_stmt, copy_stmt, namespace, tablespace, owner] {
            let Some(bytes) = text.as_deref().filter(|bytes| !bytes.is_ascii()) else { continue };
            if let Some(decoded) = decoder.decode(bytes) {
                *text = Some(decoded.into_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_known_and_text_is_read_by_it() {
        for (name, label) in LABELS {
            assert!(decoder(name).is_some(), "{name}: {label}");
        }
        for (name, bytes, text) in [
            ("LATIN1", &b"gr\xfcn \x80"[..], "grün \u{80}"),
            ("EUC_JP", b"\xc6\xfc\xcb\xdc", "日本"),
            ("WIN1251", b"\xe4\xe0", "да"),
            ("LATIN9", b"\xa4", "€"),
        ] {
            assert_eq!(decoder(name).unwrap().decode(bytes).unwrap(), text, "{name}");
        }
        assert!(decoder("EUC_JP").unwrap().decode(b"\xff\xff").is_none());
        assert!(decoder("SQL_ASCII").is_none() && decoder("UTF8").is_none());
    }
}
