//! The location of a token, as given after a flag: never the token itself, which everyone on the machine could read.

use lifeboat_core::{Error, ErrorKind, Result, Setting};

/// What was given after `--token`: `env:NAME` or `file:PATH`. A variable is called by its own name in messages.
///
/// # Errors
/// [`ErrorKind::Config`](lifeboat_core::ErrorKind::Config) for anything else, which may be the token itself and is not printed.
pub(crate) fn of_flag(token: Setting) -> Result<Setting> {
    let is_empty = matches!(token.raw(), "${}" | "file:");
    if is_empty || token.is_literal() {
        return Err(token
            .wrong("it does not take a token itself")
            .hint("put it into a variable or a file of mode 0600, and give --token env:NAME or --token file:PATH"));
    }
    Ok(match token.raw().strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => Setting::variable_named(name),
        None => token,
    })
}

/// What to do about an error of a restore whose token may not write.
pub(crate) fn hint_for_writing(error: &Error) -> Option<String> {
    let advice = error.advice().map(|advice| format!("{advice}; ")).unwrap_or_default();
    let is_refused = error.kind() == ErrorKind::Permission;
    is_refused.then(|| format!("{advice}give a token that can write with --token env:NAME or --token file:PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_and_never_given() {
        let place = |text: &str| of_flag(Setting::given(text, "--token")).map(|token| token.place().to_owned());
        assert_eq!(place("env:DOPPLER_TOKEN").unwrap(), "DOPPLER_TOKEN");
        assert_eq!(place("file:token.txt").unwrap(), "--token");
        for wrong in ["dp.st.hunter2", "${HUNTER2}", "env:", "file:", ""] {
            let error = place(wrong).unwrap_err();
            assert_eq!((error.subject(), error.message()), ("--token", "it does not take a token itself"), "{wrong}");
            assert!(!format!("{error:?}").contains("unter2"));
        }
    }
}
