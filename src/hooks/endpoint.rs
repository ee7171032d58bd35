//! Where a hook may be told: an account must not have this server ask what only this server can reach.
//!
//! An address is judged when it is set and before each request, as far as it says itself what it is; a name is judged by the
//! addresses that it resolves to, when it is connected to (`upstream/address.rs`).

use url::Url;

use super::Settings;
use crate::upstream::is_public_host;

/// Whether an address may be told; `Err` says why not, to follow "the address".
pub(super) fn check(settings: &Settings, url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_http => {}
        _ => return Err("has to be https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have neither a name nor a password in it");
    }
    if !settings.allow_private && !is_public_host(url) {
        return Err("has to be one of the public internet");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_told() {
        let judged = |settings: &Settings, text: &str| check(settings, &text.parse().unwrap()).is_ok();
        let public = Settings::default();
        for url in ["https://ci.example.com/hook?key=1", "https://8.8.8.8/", "https://ci.example.com:8443/"] {
            assert!(judged(&public, url), "{url}");
        }
        let private = [
            "https://localhost/",
            "https://localhost./",
            "https://registry/",
            "https://db.internal/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://0.0.0.0/",
            "https://10.0.0.1/",
            "https://100.64.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://[::]/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:a00:1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[fc00::1]/",
            "https://[fe80::1]/",
            "https://[ff02::1]/",
            "https://[2001:db8::1]/",
        ];
        let intranet = Settings { allow_private: true, ..Settings::default() };
        for url in private {
            assert!(!judged(&public, url), "{url}");
            assert!(judged(&intranet, url), "{url}");
        }
        let open = Settings { allow_http: true, ..Settings::default() };
        for (settings, url, expected) in [
            (&public, "http://ci.example.com/", false),
            (&open, "http://ci.example.com/", true),
            (&open, "http://127.0.0.1/", false),
            (&open, "ftp://ci.example.com/", false),
            (&intranet, "file:///etc/passwd", false),
            (&public, "https://user@ci.example.com/", false),
            (&public, "https://:hush@ci.example.com/", false),
        ] {
            assert_eq!(judged(settings, url), expected, "{url}");
        }
    }
}
