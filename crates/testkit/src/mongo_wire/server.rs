//! Connections.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Shared, commands, message};

/// Accepts connections until it is dropped, and with it all of them.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (mut from, mut to) = message::split(stream);
    while let Some(request) = message::read(&mut from).await {
        if let Some(time) = commands::late(&shared, &request) {
            tokio::time::sleep(time).await;
        }
        let answer = commands::answer(&shared, &request);
        let (reply, last) = match answer {
            commands::Answer::Reply(reply) => (reply, false),
            commands::Answer::Half(reply) => (reply, true),
            commands::Answer::Nothing => return,
        };
        if request.silent {
            continue;
        }
        if message::write(&mut to, &request, &reply, last).await.is_err() || last {
            return;
        }
    }
}
