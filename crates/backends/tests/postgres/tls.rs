//! A server with TLS, and a proxy before it that ends TLS, as providers and poolers have them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_testkit::postgres::Server;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server that takes connections with TLS and without; its certificate is for `localhost` and the loopback addresses.
pub fn server() -> Server {
    Server::start_with(|folder| {
        let lines = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
             openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
             printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' > ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem
             chmod 600 server.key; chmod 644 ca.pem";
        let made = std::process::Command::new("bash").args(["-ec", lines]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(folder.join("hba.conf"), "host all all all scram-sha-256\n").unwrap();
        let show = |file: &str| folder.join(file).display().to_string();
        vec![
            "listen_addresses=127.0.0.1,::1".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", show("server.pem")),
            format!("ssl_key_file={}", show("server.key")),
            format!("hba_file={}", show("hba.conf")),
        ]
    })
}

/// Codes of the first packet (`pqcomm.h`).
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// Ends TLS and goes on without it. It lets sessions without TLS through as well, and counts both.
pub struct Proxy {
    pub port: u16,
    pub encrypted: Arc<AtomicUsize>,
    pub plain: Arc<AtomicUsize>,
}

impl Proxy {
    /// Before a server, with the certificate in this folder.
    pub async fn start(server: String, folder: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy =
            Self { port: listener.local_addr().unwrap().port(), encrypted: Arc::default(), plain: Arc::default() };
        let (encrypted, plain) = (proxy.encrypted.clone(), proxy.plain.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(serve(client, acceptor, server, encrypted.clone(), plain.clone()));
            }
        });
        proxy
    }
}

async fn serve(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    server: String,
    encrypted: Arc<AtomicUsize>,
    plain: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut head = [0; 8];
    loop {
        client.read_exact(&mut head).await?;
        match u32::from_be_bytes([head[4], head[5], head[6], head[7]]) {
            GSS_REQUEST => client.write_all(b"N").await?,
            SSL_REQUEST => {
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                encrypted.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(&server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                return Ok(());
            }
            code => {
                if code != CANCEL {
                    plain.fetch_add(1, Ordering::SeqCst);
                }
                let mut server = TcpStream::connect(&server).await?;
                server.write_all(&head).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                return Ok(());
            }
        }
    }
}
