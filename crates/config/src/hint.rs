//! Hints in the words of the command line: its flags, commands and config keys.

use lifeboat_core::{Error, Hint};

/// What to try after an error, if there is advice.
pub fn advice(error: &Error) -> Option<String> {
    error.typed_hint().map(render)
}

/// A hint in the words of the command line.
pub fn render(hint: &Hint) -> String {
    let text = match hint {
        Hint::All(hints) => return hints.iter().map(render).collect::<Vec<_>>().join("; "),
        Hint::ChooseEncryption => "choose an encryptor, as in --encrypt age:age1…, or give --encrypt none",
        Hint::ChooseEncryptor => "choose an encryptor, as in --encrypt age:age1… (`lifeboat init` makes a key)",
        Hint::NameRecipient => "name at least one, as in age:age1… ; `lifeboat init` makes a key",
        Hint::WriteRecipient => {
            "a recipient is age1… (the public key that `lifeboat init` or age-keygen print) or a line ssh-ed25519 … or ssh-rsa …"
        }
        Hint::WriteIdentity => {
            "it must hold AGE-SECRET-KEY-1… lines, as `lifeboat init` or age-keygen write them, or an SSH private key"
        }
        Hint::GiveKey { scheme } if scheme == "age" => {
            "give the secret key that matches one of its recipients: --identity PATH, or identity = \"PATH\" in the config"
        }
        Hint::GiveKey { scheme } if scheme == "openssl" => {
            "name the variable that holds its passphrase: --identity openssl:env:NAME, or encrypt = \"openssl:env:NAME\" in the \
             config"
        }
        Hint::GiveFittingIdentity => {
            "the manifest names the recipients: `lifeboat show` prints them; give the identity of one of them with --identity PATH"
        }
        Hint::GivePassphrase => "name the environment variable that holds it: openssl:env:NAME",
        Hint::CheckPassphrase => {
            "give the passphrase that it was written with; `lifeboat verify --level stored` compares the object with the \
             manifest's SHA-256"
        }
        Hint::ListArtifacts => "`lifeboat list` shows what there is",
        Hint::NameArtifact => {
            "write latest, an age like 2d or 36h, yesterday, a UTC time like 2026-11-21T03:30:00Z, a day like 2026-11-21, or a \
             key as `lifeboat list` prints it"
        }
        Hint::FindMissingArtifact { older } => {
            let elsewhere = "`lifeboat list` shows what other sinks hold (read one with --sink NAME), and a bucket may keep it as \
                 an older version";
            return match older {
                Some(older) => format!("{elsewhere}; to use the older one, name it: --at {older}"),
                None => elsewhere.to_owned(),
            };
        }
        Hint::UseAnotherArtifact => "use another artifact; `lifeboat verify` says what is wrong with this one",
        Hint::ReplicateLater => "run `lifeboat replicate` later to copy what is missing there",
        Hint::AllowEmpty => "look at the source; if it may be empty, set allow_empty = true (--allow-empty)",
        Hint::AllowShrink => {
            "look at the source; the fuller backup is kept. If the shrinkage is right, back up once with --max-shrink 100%"
        }
        Hint::RaiseStallLimit => "check what does not respond; if it is only slow, raise stall_limit (--stall-limit)",
        Hint::CopyTree => "`lifeboat replicate` makes it",
        Hint::RunAgainOrPruneOrphans => {
            "run it again: a second later the name is different; `lifeboat prune --orphans` removes what a killed run has left"
        }
        Hint::AllowAllDeletions => "check the source; --delete-extra=all deletes them anyway",
        Hint::CopyIntoFolder { folder } => {
            return format!("give the copy its own folder: into = \"{folder}\", or --into {folder}");
        }
        Hint::CopyWholeTree { folder } => {
            return format!(
                "copy the whole tree into a folder: into = \"{folder}\", or --into {folder}; or use a sink one level above"
            );
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use lifeboat_core::ErrorKind;

    use super::*;

    #[test]
    fn flags_and_commands_are_said_here_and_only_here() {
        let key = |scheme: &str| Hint::GiveKey { scheme: scheme.to_owned() };
        let folder = "volumes".to_owned();
        for (hint, word) in [
            (Hint::ChooseEncryption, "--encrypt none"),
            (Hint::ChooseEncryptor, "--encrypt age:age1…"),
            (Hint::NameRecipient, "`lifeboat init`"),
            (Hint::WriteRecipient, "`lifeboat init`"),
            (Hint::WriteIdentity, "`lifeboat init`"),
            (key("age"), "--identity PATH"),
            (key("openssl"), "--identity openssl:env:NAME"),
            (Hint::GiveFittingIdentity, "`lifeboat show`"),
            (Hint::GivePassphrase, "openssl:env:NAME"),
            (Hint::CheckPassphrase, "`lifeboat verify --level stored`"),
            (Hint::ListArtifacts, "`lifeboat list`"),
            (Hint::NameArtifact, "`lifeboat list`"),
            (
                Hint::FindMissingArtifact { older: Some("x-20261121-033000.dump".to_owned()) },
                "--at x-20261121-033000.dump",
            ),
            (Hint::UseAnotherArtifact, "`lifeboat verify`"),
            (Hint::ReplicateLater, "`lifeboat replicate`"),
            (Hint::CopyTree, "`lifeboat replicate`"),
            (Hint::RunAgainOrPruneOrphans, "`lifeboat prune --orphans`"),
            (Hint::AllowAllDeletions, "--delete-extra=all"),
            (Hint::CopyIntoFolder { folder: folder.clone() }, "--into volumes"),
            (Hint::CopyWholeTree { folder }, "--into volumes"),
        ] {
            assert!(render(&hint).contains(word), "{hint:?}: {}", render(&hint));
            let neutral = hint.to_string();
            assert!(
                !neutral.contains("--") && !neutral.contains('`') && !neutral.contains(word),
                "{hint:?}: {neutral}"
            );
        }
        assert_eq!(render(&Hint::from("a").and(Hint::CopyTree)), "a; `lifeboat replicate` makes it");
        let error = Error::new(ErrorKind::Io, "read", "x", "gone");
        assert_eq!((advice(&error), advice(&error.hint("as it is"))), (None, Some("as it is".to_owned())));
    }
}
