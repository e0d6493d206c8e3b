//! `lifeboat-cloudflare-dns`: backs up, verifies and restores DNS zones at Cloudflare, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat_bins::lifeboat_cloudflare_dns()
}
