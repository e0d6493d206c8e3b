//! `lifeboat-cloudflare-dns`: backs up, verifies and restores DNS zones at Cloudflare, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::cloudflare::CloudflareSystem>()
}
