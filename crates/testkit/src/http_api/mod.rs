//! Local servers that imitate HTTP APIs, with faults on purpose.
//!
//! An imitation implements [`Api`]: a function from a request to an answer, over state of its own. [`Server`] serves it on a
//! loopback port, from a thread of its own, so that tests of programs can use it as well as asynchronous ones. It keeps a
//! record of what was asked ([`Server::requests`]) and injects [`Fault`]s, by path and count, before the imitation sees the
//! request.
//!
//! HTTP/1.1 is written out here and not taken from the library that the client uses, so that both cannot share a mistake,
//! and because what is wanted here (a body shorter than announced, silence) is what a library prevents.

mod fault;
mod message;
mod server;

pub use fault::{Fault, Kind};
pub use message::{Request, Response};
pub use server::Server;

/// An imitation of an API.
pub trait Api: Send + Sync + 'static {
    /// Answers a request. Runs on the server's thread: it does not wait for anything.
    fn answer(&self, request: &Request) -> Response;
}
