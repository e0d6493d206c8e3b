//! The role of an object, derived from its name.

use jiff::Timestamp;

use super::amount::{Amount, Judged};
use crate::name::{ArtifactName, MANIFEST_SUFFIX, parse_stamp, split_stem};
use crate::verifier::Level;

/// What separates an artifact's name from the rest of a verification record's name.
pub(super) const VERIFIED_INFIX: &str = ".verified-";

/// What separates an artifact's name from the name of the artifact it needs, the latter without its dataset.
pub(super) const NEEDS_INFIX: &str = ".needs-";

/// What separates an artifact's name from how much it holds.
const HOLDS_INFIX: &str = ".holds-";

/// The suffix of every sidecar.
const SIDECAR_SUFFIX: &str = ".json";

/// How the suffixes of manifests of other formats begin: `.manifest.v2.json`, `.manifest-2.json`.
const OTHER_MANIFESTS: [&str; 3] = [".manifest.", ".manifest-", ".manifest_"];

/// Suffixes of the checksums and signatures that users and scripts put beside what they store.
const COMPANIONS: [&str; 13] = [
    ".sha256",
    ".sha512",
    ".sha1",
    ".md5",
    ".b3",
    ".xxh128",
    ".sha256sum",
    ".sha512sum",
    ".sha1sum",
    ".md5sum",
    ".asc",
    ".sig",
    ".minisig",
];

/// The role of an object in a folder, derived from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Object,
    Manifest,
    /// A manifest of an unknown format.
    OtherManifest,
    Verification(Timestamp, Level, bool),
    /// The artifact cannot be restored without this one.
    Need(ArtifactName),
    /// The artifact holds this much.
    Holds(Amount, Judged),
}

/// The artifact that an object belongs to, and its role. `None` for names that are unknown or not Lifeboat's concern.
pub(crate) fn role(name: &str) -> Option<(ArtifactName, Role)> {
    if let Some(base) = name.strip_suffix(MANIFEST_SUFFIX) {
        return Some((ArtifactName::parse(base)?, Role::Manifest));
    }
    // Only after the timestamp: a dataset may have such words in its name.
    let (stem, rest) = split_stem(name)?;
    let parts = |infix: &str| {
        let at = rest.find(infix)?;
        Some((&name[..stem.len() + at], &rest[at + infix.len()..]))
    };
    if let Some((base, record)) = parts(VERIFIED_INFIX) {
        let mut parts = record.strip_suffix(SIDECAR_SUFFIX)?.rsplitn(3, '-');
        let passed = match parts.next()? {
            "pass" => true,
            "fail" => false,
            _ => return None,
        };
        let level = parts.next()?.parse().ok()?;
        return Some((ArtifactName::parse(base)?, Role::Verification(parse_stamp(parts.next()?)?, level, passed)));
    }
    if let Some((base, needed)) = parts(NEEDS_INFIX) {
        let artifact = ArtifactName::parse(base)?;
        let needed = format!("{}-{}", artifact.dataset, needed.strip_suffix(SIDECAR_SUFFIX)?);
        return Some((artifact, Role::Need(ArtifactName::parse(&needed)?)));
    }
    if let Some((base, figures)) = parts(HOLDS_INFIX) {
        let mut parts = figures.strip_suffix(SIDECAR_SUFFIX)?.splitn(4, '-');
        let mut figure = || parts.next()?.parse().ok();
        let amount = Amount { items: figure()?, rows: figure()?, bytes: figure()? };
        return Some((ArtifactName::parse(base)?, Role::Holds(amount, Judged::parse(parts.next()?)?)));
    }
    if name.ends_with(SIDECAR_SUFFIX)
        && let Some((base, _)) = OTHER_MANIFESTS.iter().find_map(|infix| parts(infix))
        && let Some(artifact) = ArtifactName::parse(base)
    {
        return Some((artifact, Role::OtherManifest));
    }
    if let Some((base, volume)) = name.rsplit_once('.')
        && volume.len() == 3
        && volume.bytes().all(|b| b.is_ascii_digit())
    {
        return Some((ArtifactName::parse(base)?, Role::Object));
    }
    Some((ArtifactName::parse(name)?, Role::Object))
}

/// The name of the sidecar that says what an artifact needs. `None` if the two are not of the same dataset.
pub(crate) fn need_name(artifact: &ArtifactName, needed: &ArtifactName) -> Option<String> {
    let without_dataset = format!("{}.{}", needed.stamp(), needed.extensions());
    let same = artifact.dataset == needed.dataset;
    same.then(|| format!("{artifact}{NEEDS_INFIX}{without_dataset}{SIDECAR_SUFFIX}"))
}

/// The name of the sidecar that says how much an artifact holds.
pub(crate) fn holds_name(artifact: &ArtifactName, amount: Amount, judged: Judged) -> String {
    let Amount { items, rows, bytes } = amount;
    format!("{artifact}{HOLDS_INFIX}{items}-{rows}-{bytes}-{}{SIDECAR_SUFFIX}", judged.as_str())
}

/// Whether a name is that of a checksum or signature.
pub(super) fn is_companion(name: &str) -> bool {
    COMPANIONS.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ArtifactName {
        ArtifactName::parse(text).unwrap()
    }

    #[test]
    fn a_sidecar_names_all_of_what_is_needed() {
        let increment = name("shop-20261122-033000.pginc.zst.age");
        let base = name("shop-20261121-033000.pgbase.tar.zst.enc-gpg");
        let sidecar = need_name(&increment, &base).unwrap();
        assert_eq!(sidecar, "shop-20261122-033000.pginc.zst.age.needs-20261121-033000.pgbase.tar.zst.enc-gpg.json");
        assert_eq!(role(&sidecar), Some((increment.clone(), Role::Need(base))));
        assert_eq!(need_name(&increment, &name("shop-eu-20261121-033000.pgbase")), None);
        assert_eq!(ArtifactName::parse(&sidecar), None);
    }

    #[test]
    fn a_manifest_of_another_form_is_told_by_its_name() {
        let artifact = name("shop-20261122-033000.dump");
        for tail in [".manifest.v2.json", ".manifest-2.json", ".manifest.json.v2.json", ".manifest_x.json"] {
            assert_eq!(role(&format!("{artifact}{tail}")), Some((artifact.clone(), Role::OtherManifest)), "{tail}");
        }
        for other in ["shop-20261122-033000.manifest-a.json", "shop-20261122-033000.tar.manifests.json"] {
            assert!(!matches!(role(other), Some((_, Role::OtherManifest))), "{other}");
        }
    }

    #[test]
    fn words_of_sidecars_in_the_name_of_a_dataset_mean_nothing() {
        for dataset in ["a.verified-b", "a.needs-b", "a.manifest.c"] {
            let artifact = name(&format!("{dataset}-20261122-033000.dump"));
            assert_eq!(role(&artifact.to_string()), Some((artifact.clone(), Role::Object)));
            let record = format!("{artifact}.verified-20261123-000000-restore-pass.json");
            let at = "2026-11-23T00:00:00Z".parse().unwrap();
            assert_eq!(role(&record), Some((artifact, Role::Verification(at, Level::Restore, true))));
        }
    }

    #[test]
    fn a_sidecar_that_is_not_known_has_no_role() {
        for tail in [
            "hold-1.json",
            "verified-20261123-000000-deep-pass.json",
            "verified-20261123-000000-restore-skip.json",
            "needs-elsewhere.json",
            "needs-20261121-033000.json",
        ] {
            assert_eq!(role(&format!("shop-20261122-033000.dump.zst.{tail}")), None, "{tail}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", tail in "[.a-z0-9-]{0,40}") {
            let _ = role(&text);
            let _ = role(&format!("shop-20261122-033000.{tail}.json"));
        }

        #[test]
        fn every_amount_reads_back(items: u64, rows: u64, bytes: u64, x in 0usize..3) {
            let artifact = name("shop-20261122-033000.globals.sql.zst.age");
            let (amount, judged) = (Amount { items, rows, bytes }, [Judged::Whole, Judged::Less, Judged::Unjudged][x]);
            let sidecar = holds_name(&artifact, amount, judged);
            prop_assert_eq!(role(&sidecar), Some((artifact, Role::Holds(amount, judged))));
        }

        #[test]
        fn every_need_reads_back(seconds in 0i64..253_402_300_799, format in "[a-z]{1,8}(\\.[a-z]{1,4})?", x in 0usize..4) {
            let more = ["", ".zst", ".zst.age", ".gz.enc-kms"][x];
            let text = format!("shop-{}.{format}{more}", crate::name::format_stamp(Timestamp::from_second(seconds).unwrap()));
            let Some(needed) = ArtifactName::parse(&text) else { return Ok(()) };
            let artifact = name("shop-20261122-033000.inc.zst.age");
            let sidecar = need_name(&artifact, &needed).unwrap();
            prop_assert_eq!(role(&sidecar), Some((artifact, Role::Need(needed))));
        }
    }
}
