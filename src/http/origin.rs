//! Where a request came from, and how this server is called by whoever sent it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, Uri};
use ipnet::IpNet;

use crate::app::PublicAddress;

/// The peer of the connection a request came in on.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What a front end that hands requests over as events (AWS's API Gateway, function URLs, load balancers) says of one. Nothing in
/// it is a client's word.
#[derive(Debug, Clone)]
pub struct FrontEnd {
    /// The host that it was asked under, where it tells.
    pub host: Option<String>,
    /// What it took off the path, such as `/prod`.
    pub prefix: String,
    /// The client came over TLS.
    pub is_encrypted: bool,
    /// Who asked it, where it tells.
    pub client: Option<IpAddr>,
}

/// How this server is called, by what a request shows of it.
struct Shown<'a> {
    scheme: &'static str,
    host: Option<&'a str>,
    prefix: &'a str,
}

/// A request's origin.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// This server's URL as the client knows it, without a trailing slash: what tarball URLs start with.
    pub(super) base: Arc<str>,
    /// The path part of it, which may be in front of every path.
    pub(super) prefix: Arc<str>,
    /// A password may travel this way: encrypted up to a declared proxy, or never leaving the machine.
    pub(super) is_private_line: bool,
    /// It was sent on this machine, and no proxy shows itself in it.
    pub(super) is_from_here: bool,
    /// The client's own address. `None` behind a proxy that does not tell it, or tells nonsense.
    pub(super) address: Option<IpAddr>,
}

impl Origin {
    /// Works out the origin from the settings and, where those leave it open, from the request. What a request says
    /// of the outside address is believed of declared proxies only.
    pub(super) fn of(public: &PublicAddress, peer: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Self {
        let is_proxy = is_in(&public.trusted_proxies, peer.ip());
        let forwarded = |name: &str| if is_proxy { last_value(headers, name) } else { None };
        let scheme = match forwarded("x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        let is_from_here = !is_proxy && peer.ip().to_canonical().is_loopback() && !is_forwarded(headers);
        let is_private_line = if is_proxy {
            // A proxy that says nothing of it is taken to end TLS, which is what most are there for.
            forwarded("x-forwarded-proto") != Some("http")
        } else {
            public.is_loopback && is_from_here
        };
        let address = client_address(&public.trusted_proxies, peer.ip(), headers);
        let shown = || Shown {
            scheme,
            host: forwarded("x-forwarded-host").or_else(|| own_host(uri, headers)),
            prefix: forwarded("x-forwarded-prefix").unwrap_or(""),
        };
        Self { is_from_here, ..Self::called(public, shown, is_private_line, address) }
    }

    /// As [`Origin::of`], where a front end tells. A proxy before it, such as a CDN, is believed when it is declared.
    pub(super) fn behind(public: &PublicAddress, front: &FrontEnd, uri: &Uri, headers: &HeaderMap) -> Self {
        let is_proxy = front.client.is_some_and(|client| is_in(&public.trusted_proxies, client));
        let forwarded = |name: &str| if is_proxy { last_value(headers, name) } else { None };
        let address = front.client.and_then(|client| client_address(&public.trusted_proxies, client, headers));
        let shown = || Shown {
            scheme: if front.is_encrypted { "https" } else { "http" },
            host: forwarded("x-forwarded-host").or(front.host.as_deref()).or_else(|| own_host(uri, headers)),
            prefix: forwarded("x-forwarded-prefix").unwrap_or(&front.prefix),
        };
        Self::called(public, shown, front.is_encrypted, address)
    }

    fn called<'a>(
        public: &PublicAddress,
        shown: impl FnOnce() -> Shown<'a>,
        is_private_line: bool,
        address: Option<IpAddr>,
    ) -> Self {
        if let Some(url) = &public.url {
            let base = url.as_str().trim_end_matches('/');
            return Self {
                base: base.into(),
                prefix: url.path().trim_end_matches('/').into(),
                is_private_line,
                is_from_here: false,
                address,
            };
        }
        let Shown { scheme, host, prefix } = shown();
        let host = host.filter(|host| is_host(host)).unwrap_or("localhost");
        let prefix = Some(prefix).filter(|prefix| is_prefix(prefix)).unwrap_or("").trim_end_matches('/');
        let base = [scheme, "://", host, prefix].concat().into();
        Self { base, prefix: prefix.into(), is_private_line, is_from_here: false, address }
    }
}

fn own_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    host.or_else(|| uri.authority().map(http::uri::Authority::as_str))
}

/// The address of the client: the peer's, or, where that is a declared proxy, the last in `X-Forwarded-For` that is none.
/// What stands before it may have been made up by the client.
fn client_address(proxies: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    if !is_in(proxies, peer) {
        return Some(peer.to_canonical());
    }
    let mut values = headers.get_all("x-forwarded-for").iter().rev();
    let mut hops = values.by_ref().flat_map(|value| value.to_str().unwrap_or_default().rsplit(',')).map(str::trim);
    hops.find_map(|hop| match hop.parse::<IpAddr>() {
        Ok(address) if is_in(proxies, address) => None,
        Ok(address) => Some(Some(address.to_canonical())),
        Err(_) => Some(None),
    })?
}

/// Why a request does not come from this machine although nobody else is served: a proxy that was not declared, or a
/// page in a browser whose host name was made to lead here (DNS rebinding). `None` when all is well.
pub(super) fn stranger(public: &PublicAddress, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    if !public.is_local_only {
        return None;
    }
    if is_forwarded(headers) {
        return Some(
            "A proxy stands in front of this registry: declare it with `server.trusted_proxies` and set `server.public_url`.",
        );
    }
    // Without a host it is no browser.
    if own_host(uri, headers).is_none_or(is_local_host) {
        None
    } else {
        Some("This registry serves `localhost` only: to use another name, set `server.public_url`.")
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    // One by one they would be looked up by their hashes, four times for each request; most requests have a handful of
    // headers, none of which begins like these.
    headers.keys().any(|name| match name.as_str().strip_prefix("x-") {
        None => *name == FORWARDED,
        Some(rest) => matches!(rest, "forwarded-for" | "forwarded-host" | "forwarded-proto"),
    })
}

fn is_local_host(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name == "127.0.0.1"
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    // An IPv4 peer on a dual-stack listener looks like ::ffff:10.0.0.1.
    networks.iter().any(|network| network.contains(&address.to_canonical()))
}

/// The value that the nearest proxy added: the last of a list.
fn last_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// A host with an optional port, and nothing that could break out of a URL.
fn is_host(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

fn is_prefix(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '~');
    text.starts_with('/') && !text.contains("//") && text.len() <= 255 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(public: &PublicAddress, peer: &str, headers: &[(&'static str, &str)]) -> Origin {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Origin::of(public, peer.parse().unwrap(), &Uri::from_static("/x"), &map)
    }

    fn open(proxies: &[&str]) -> PublicAddress {
        let trusted_proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
        PublicAddress { url: None, trusted_proxies, is_loopback: false, is_local_only: false }
    }

    #[test]
    fn only_declared_proxies_are_believed() {
        let forwarded = [
            ("host", "internal:4873"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "npm.example"),
            ("x-forwarded-prefix", "/npm/"),
        ];
        let believed = origin(&open(&["10.0.0.0/8"]), "[::ffff:10.1.2.3]:9", &forwarded);
        assert_eq!(&*believed.base, "https://npm.example/npm");
        assert!(believed.is_private_line);
        let stranger = origin(&open(&["10.0.0.0/8"]), "192.0.2.1:9", &forwarded);
        assert_eq!(&*stranger.base, "http://internal:4873");
        assert!(!stranger.is_private_line);
        let plain = origin(&open(&["10.0.0.0/8"]), "10.1.2.3:9", &[("x-forwarded-proto", "http")]);
        assert!(!plain.is_private_line);
        let silent = origin(&open(&["10.0.0.0/8"]), "10.1.2.3:9", &[("host", "npm.example")]);
        assert!(silent.is_private_line);
    }

    #[test]
    fn the_clients_address_is_believed_of_declared_proxies_only() {
        let seen = |peer: &str, forwarded: &[&'static str]| {
            let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
            origin(&open(&["10.0.0.0/8"]), peer, &headers).address.map(|address| address.to_string())
        };
        assert_eq!(seen("192.0.2.1:9", &[]).as_deref(), Some("192.0.2.1"));
        assert_eq!(seen("192.0.2.1:9", &["198.51.100.7"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(seen("[::ffff:192.0.2.1]:9", &[]).as_deref(), Some("192.0.2.1"));
        assert_eq!(seen("10.0.0.1:9", &["198.51.100.7"]).as_deref(), Some("198.51.100.7"));
        // What the client itself put in front counts for nothing.
        assert_eq!(seen("10.0.0.1:9", &["203.0.113.9, 198.51.100.7"]).as_deref(), Some("198.51.100.7"));
        assert_eq!(seen("10.0.0.1:9", &["198.51.100.7, 10.0.0.2"]).as_deref(), Some("198.51.100.7"));
        assert_eq!(seen("10.0.0.1:9", &["203.0.113.9", "198.51.100.7, 10.0.0.2"]).as_deref(), Some("198.51.100.7"));
        assert_eq!(seen("10.0.0.1:9", &["198.51.100.7, nonsense"]), None);
        assert_eq!(seen("10.0.0.1:9", &[]), None);
        assert_eq!(seen("10.0.0.1:9", &["2001:db8::7"]).as_deref(), Some("2001:db8::7"));
    }

    #[test]
    fn a_fixed_url_wins_and_a_bad_host_is_not_repeated() {
        let fixed = PublicAddress { url: Some("https://a.example/npm/".parse().unwrap()), ..open(&[]) };
        let found = origin(&fixed, "127.0.0.1:9", &[("host", "evil")]);
        assert_eq!((&*found.base, &*found.prefix), ("https://a.example/npm", "/npm"));
        assert_eq!(&*origin(&open(&[]), "192.0.2.1:9", &[("host", "a/b\"c")]).base, "http://localhost");
    }

    #[test]
    fn a_front_end_is_believed_and_what_stands_before_it_only_when_declared() {
        let front = FrontEnd {
            host: Some("abc.execute-api.example".to_owned()),
            prefix: "/prod".to_owned(),
            is_encrypted: true,
            client: Some("10.0.0.1".parse().unwrap()),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "abc.execute-api.example"),
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.0.0.1"),
            ("x-forwarded-host", "npm.example"),
            ("x-forwarded-prefix", "/npm"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let seen = |public: &PublicAddress| {
            let origin = Origin::behind(public, &front, &Uri::from_static("/x"), &headers);
            assert!(origin.is_private_line);
            (origin.base.to_string(), origin.prefix.to_string(), origin.address.map(|address| address.to_string()))
        };
        let is =
            |base: &str, prefix: &str, address: &str| (base.to_owned(), prefix.to_owned(), Some(address.to_owned()));
        assert_eq!(seen(&open(&[])), is("https://abc.execute-api.example/prod", "/prod", "10.0.0.1"));
        assert_eq!(seen(&open(&["10.0.0.0/8"])), is("https://npm.example/npm", "/npm", "198.51.100.7"));
        let fixed = PublicAddress { url: Some("https://npm.example/registry".parse().unwrap()), ..open(&[]) };
        assert_eq!(seen(&fixed), is("https://npm.example/registry", "/registry", "10.0.0.1"));
    }

    #[test]
    fn a_registry_for_this_machine_serves_no_other_name() {
        let public = PublicAddress { is_loopback: true, is_local_only: true, ..open(&[]) };
        let answered = |headers: &[(&'static str, &str)]| {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            stranger(&public, &Uri::from_static("/x"), &map).is_none()
        };
        for host in ["localhost", "localhost:4873", "127.0.0.1:4873", "[::1]:4873", "127.8.8.8"] {
            assert!(answered(&[("host", host)]), "{host}");
        }
        for host in ["evil.example", "evil.example:4873", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!answered(&[("host", host)]), "{host}");
        }
        assert!(!answered(&[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")]));
    }
}
