//! TLS of Lifeboat's own sessions: which certificates are accepted.

use std::sync::{Arc, Once};

use lifeboat_core::{Error, ErrorKind, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::connection::Connection;

/// The trusted authorities, and the client's certificate.
///
/// # Errors
/// [`ErrorKind::Config`] if a certificate file cannot be used.
pub(super) fn config(to: &Connection) -> Result<rustls::ClientConfig> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the program may already have chosen one, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let wrong = |what: &str, path: &std::path::Path, e: String| {
        Error::new(ErrorKind::Config, "use", format!("{what}={}", path.display()), e)
    };
    let mut roots = rustls::RootCertStore::empty();
    match &to.ssl_root {
        Some(path) => {
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|e| wrong("sslrootcert", path, e.to_string()))?;
            for certificate in certificates {
                let added =
                    certificate.map_err(|e| e.to_string()).and_then(|c| roots.add(c).map_err(|e| e.to_string()));
                added.map_err(|e| wrong("sslrootcert", path, e))?;
            }
            if roots.is_empty() {
                return Err(wrong("sslrootcert", path, "there is no certificate in it".to_owned()));
            }
        }
        None => {
            // An unreadable root is not trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = rustls::ClientConfig::builder();
    let builder = match to.any_name {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName::of(roots))),
        false => builder.with_root_certificates(roots),
    };
    match (&to.ssl_cert, &to.ssl_key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
                .map_err(|e| wrong("sslcert", cert, e.to_string()))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("sslkey", key, e.to_string()))?;
            builder.with_client_auth_cert(chain, secret).map_err(|e| wrong("sslcert", cert, e.to_string()))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::new(ErrorKind::Config, "read", "the PostgreSQL URL", "sslcert and sslkey go together")),
    }
}

/// Checks that a named authority has signed the certificate, but not the name in it (`verify-ca`).
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyName {
    fn of(roots: RootCertStore) -> Self {
        Self { roots, algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
