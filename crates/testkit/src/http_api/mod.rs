//! Local servers that imitate HTTP APIs, with deliberate faults.
//!
//! An imitation implements [`Api`]: a function from a request to a response, with its own state. [`Server`] serves it
//! on a loopback port, on its own thread, so that it can be used by tests of programs and by asynchronous tests. It
//! records all requests ([`Server::requests`]) and injects [`Fault`]s, by path and count, before the imitation sees the
//! request.
//!
//! HTTP/1.1 is implemented here instead of using the client's library, so that the two cannot share a bug, and because
//! a library prevents what is needed here (a body shorter than announced, silence).

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
