//! The systems that Lifeboat backs up, one folder each, behind the feature of its name.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "velero")]
pub mod velero;
