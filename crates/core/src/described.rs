//! [`Field`]: a key of a table, with the words of its comment.

/// A key of a table in a config file: the field of a struct that was written in [`described!`](crate::described).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its comment, in one line.
    pub about: &'static str,
    /// Its type, as it is written.
    pub kind: &'static str,
}

impl Field {
    /// A key with its description and its type.
    pub const fn new(name: &'static str, about: &'static str, kind: &'static str) -> Self {
        Self { name, about, kind }
    }
}

/// A struct whose comments are also there when the program runs, as `FIELDS`: for the manual page of the config file.
///
/// ```
/// lifeboat_core::described! {
///     /// Where it is.
///     struct Place {
///         /// The host.
///         host: String,
///         /// The port;
///         /// without it, 80
///         port: Option<u16>,
///     }
/// }
/// assert_eq!((Place::FIELDS[0].name, Place::FIELDS[0].about.trim()), ("host", "The host."));
/// assert_eq!((Place::FIELDS[1].about.trim(), Place::FIELDS[1].kind), ("The port; without it, 80", "Option<u16>"));
/// # let _ = Place { host: String::new(), port: None };
/// # let Place { host: _, port: _ } = Place { host: String::new(), port: None };
/// ```
#[macro_export]
macro_rules! described {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$($attr:tt)*])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $( $(#[$($attr)*])* $field_vis $field : $type ),*
        }

        impl $name {
            /// The keys of its table, with their descriptions.
            pub const FIELDS: &'static [$crate::Field] = &[
                $( $crate::Field::new(stringify!($field), $crate::comment_of!([] $(#[$($attr)*])*), stringify!($type)) ),*
            ];
        }
    };
}

/// The comment among some attributes.
#[doc(hidden)]
#[macro_export]
macro_rules! comment_of {
    ([$($line:literal)*]) => { concat!($($line),*) };
    ([$($line:literal)*] #[doc = $next:literal] $($rest:tt)*) => { $crate::comment_of!([$($line)* $next] $($rest)*) };
    ([$($line:literal)*] #[$($other:tt)*] $($rest:tt)*) => { $crate::comment_of!([$($line)*] $($rest)*) };
}
