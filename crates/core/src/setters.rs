//! Setters for option structs, so that fields can be added later.

/// Generates a setter for each field of an option struct: `setters!(Options { replace: bool, jobs: Option<u32> })`.
///
/// The struct is `#[non_exhaustive]` and has a `Default` or a constructor: programs write
/// `Options::default().replace(true)`, which still compiles when a field is added. Each setter accepts whatever
/// converts into the field, so `jobs(4)` means `jobs(Some(4))`. Omitting a field from the list is a compile error.
#[macro_export]
macro_rules! setters {
    ($options:ident { $($field:ident: $type:ty),* $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                #[allow(unreachable_pub)]
                pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
        const _: fn($options) = |options| {
            let $options { $($field: _),* } = options;
        };
    };
}

#[cfg(test)]
mod tests {
    #[derive(Debug, Default, PartialEq)]
    struct Options {
        replace: bool,
        jobs: Option<u32>,
        tables: Vec<String>,
    }

    setters!(Options { replace: bool, jobs: Option<u32>, tables: Vec<String> });

    #[test]
    fn each_setter_sets_its_field() {
        let set = Options::default().replace(true).jobs(4).tables(["a".to_owned()]);
        assert_eq!(set, Options { replace: true, jobs: Some(4), tables: vec!["a".to_owned()] });
        assert_eq!(set.jobs(None), Options { jobs: None, replace: true, tables: vec!["a".to_owned()] });
    }
}
