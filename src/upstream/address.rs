//! Where an upstream may send us: the guard against requests that are steered into our own network.
//!
//! A packument names the hosts of its tarballs, and any answer may redirect. Invariant: apart from the hosts that the
//! operator configured, no connection is made to an address that is not public, neither through a name that resolves
//! to one (checked on the very addresses that are then connected to, so a second look-up cannot answer differently),
//! nor through an address written in a URL.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use super::single_flight::SingleFlight;

/// How long a host's addresses are used without looking them up again. An install opens dozens of connections within a
/// second or two; a host that moves is found again after this.
const ADDRESSES_LAST: Duration = Duration::from_secs(10);
/// Hosts whose addresses are remembered; packuments may name any number of them.
const REMEMBERED_HOSTS: usize = 1000;

/// True for addresses of the public internet. The list is IANA's registries of special-purpose addresses, and Azure's
/// platform address, which is public in form only.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]    // this network, private, loopback, multicast and reserved
            | [100, 64..=127, ..]         // shared by carriers (RFC 6598)
            | [169, 254, ..]              // link-local, and the metadata services of most clouds
            | [172, 16..=31, ..]          // private
            | [192, 168, ..]              // private
            | [192, 0, 0 | 2, _]          // protocol assignments; documentation
            | [192, 88, 99, _]            // 6to4 relays, withdrawn
            | [198, 18 | 19, ..]          // benchmarks
            | [198, 51, 100, _]           // documentation
            | [203, 0, 113, _]            // documentation
            | [168, 63, 129, 16] // Azure's platform services
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // An IPv4 address in disguise: mapped, NAT64 (a network with DNS64 makes these for every public host), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo and ORCHID; documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything else outside of global unicast is loopback, unique-local, link-local, multicast or unassigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The hosts that may have any address, because the operator named them.
#[derive(Debug, Clone, Default)]
pub(super) struct Trusted(Vec<String>);

impl Trusted {
    /// The host of the upstream, and others by name or address.
    pub(super) fn new(home: &Url, others: &[String]) -> Self {
        let mut trusted = Self(others.iter().map(|host| host.to_ascii_lowercase()).collect());
        trusted.add(home.host_str());
        trusted
    }

    /// One more, as [`Url::host_str`] writes it.
    pub(super) fn add(&mut self, host: Option<&str>) {
        self.0.extend(host.map(str::to_owned));
    }

    fn has(&self, host: &str) -> bool {
        self.0.iter().any(|trusted| trusted == host)
    }

    /// Whether a URL may be asked, as far as it says itself; most names are judged when they are resolved.
    pub(super) fn allows(&self, url: &Url) -> bool {
        if url.host_str().is_some_and(|host| self.has(host)) {
            return true;
        }
        match url.host() {
            Some(Host::Domain(name)) => !is_internal_name(name),
            Some(Host::Ipv4(address)) => is_public_v4(address),
            Some(Host::Ipv6(address)) => is_public_v6(address),
            None => false,
        }
    }
}

/// Whether a URL names a host that may be public, as far as it says itself: most names are judged by [`Resolver`], when they
/// are resolved.
pub fn is_public_host(url: &Url) -> bool {
    Trusted::default().allows(url)
}

/// Names that are never public. Their addresses would be refused anyway, but behind a proxy we do not see those.
fn is_internal_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.rsplit_once('.') {
        Some((_, top)) => matches!(top, "localhost" | "local" | "internal" | "lan" | "home" | "corp"),
        None => true,
    }
}

/// A name has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
struct NoPublicAddress;

/// True when a request failed because [`Resolver`] refused its host.
pub(super) fn is_refusal(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if error.is::<NoPublicAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A host's addresses, and when they were looked up.
type Remembered = (Arc<[SocketAddr]>, Instant);

/// What a look-up found, or why it found nothing: all who wait for it are told.
type Addresses = Result<Arc<[SocketAddr]>, Arc<std::io::Error>>;

/// Resolves names for an HTTP client, and leaves out what is not public. A host that is written as an address is never
/// resolved: that one [`is_public_host`] judges.
///
/// All who want a host's addresses at once share one look-up, and they are remembered for a moment: name servers drop
/// some of a burst of questions, and whoever asked one of those waits for five seconds and asks again. Clones share what
/// they know.
#[derive(Clone)]
pub struct Resolver {
    pub(super) trusted: Trusted,
    known: Arc<Cache<String, Remembered>>,
    lookups: SingleFlight<String, Addresses>,
    /// Answers in place of the system's resolver.
    #[cfg(test)]
    pub(super) answers: std::collections::HashMap<String, IpAddr>,
    /// How often something was looked up.
    #[cfg(test)]
    pub(super) asked: Arc<std::sync::atomic::AtomicUsize>,
}

impl Default for Resolver {
    /// One that trusts no host.
    fn default() -> Self {
        Self {
            trusted: Trusted::default(),
            known: Arc::new(Cache::new(REMEMBERED_HOSTS)),
            // Nothing is lost with a look-up, so no stop waits for one.
            lookups: SingleFlight::new(TaskTracker::new()),
            #[cfg(test)]
            answers: std::collections::HashMap::new(),
            #[cfg(test)]
            asked: Arc::default(),
        }
    }
}

impl Resolver {
    /// One that trusts no host.
    pub fn new() -> Self {
        Self::default()
    }

    /// A host's addresses, whatever they are.
    async fn addresses(&self, host: &str) -> Result<Arc<[SocketAddr]>, Box<dyn StdError + Send + Sync>> {
        if let Some((addresses, since)) = self.known.get(host)
            && since.elapsed() < ADDRESSES_LAST
        {
            return Ok(addresses);
        }
        let (this, wanted) = (self.clone(), host.to_owned());
        let lookup = async move {
            let addresses: Arc<[SocketAddr]> = this.lookup(&wanted).await.map_err(Arc::new)?.into();
            this.known.insert(wanted, (Arc::clone(&addresses), Instant::now()));
            Ok(addresses)
        };
        Ok(self.lookups.run(host.to_owned(), lookup).await??)
    }

    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        #[cfg(test)]
        if let Some(&answer) = self.answers.get(host) {
            return Ok(vec![SocketAddr::new(answer, 0)]);
        }
        // Port 0 is replaced by the URL's.
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let mut addresses = resolver.addresses(host).await?.to_vec();
            if !resolver.trusted.has(host) {
                addresses.retain(|address| is_public(address.ip()));
                if addresses.is_empty() {
                    return Err(NoPublicAddress.into());
                }
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:0:1::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text} passed");
        }
    }

    #[test]
    fn what_is_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.1.1.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "168.63.129.17",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "2606:4700::1111",
            "2a00::1",
            "3ffe::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text} was refused");
        }
    }

    #[tokio::test]
    async fn a_burst_of_connections_makes_one_look_up() {
        let answers = [("files.example".to_owned(), "8.8.8.8".parse().unwrap())].into();
        let resolver = Resolver { answers, ..Resolver::new() };
        let resolve = || resolver.clone().resolve("files.example".parse().unwrap());
        let burst = futures::future::join_all((0..100).map(|_| resolve())).await;
        for found in burst.into_iter().chain([resolve().await]) {
            assert_eq!(found.unwrap().map(|address| address.ip().to_string()).collect::<Vec<_>>(), ["8.8.8.8"]);
        }
        assert_eq!(resolver.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_remembered_is_judged_each_time() {
        let answers = [("inside.example".to_owned(), "10.0.0.1".parse().unwrap())].into();
        let mut resolver = Resolver { answers, ..Resolver::new() };
        resolver.trusted.add(Some("inside.example"));
        assert!(resolver.resolve("inside.example".parse().unwrap()).await.is_ok());
        resolver.trusted = Trusted::default();
        let refused = resolver.resolve("inside.example".parse().unwrap()).await.err().unwrap();
        assert!(refused.is::<NoPublicAddress>());
        assert_eq!(resolver.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[test]
    fn addresses_in_urls_are_judged_however_they_are_written() {
        let trusted = Trusted::new(&"http://10.1.2.3:4873/npm/".parse().unwrap(), &["Files.Corp".to_owned()]);
        for (text, allowed) in [
            ("http://10.1.2.3/", true),
            ("http://10.1.2.3:1/x", true),
            ("http://10.1.2.4/", false),
            ("http://127.0.0.1/", false),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://017700000001/", false),
            ("http://[::1]/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("http://8.8.8.8/", true),
            ("http://[2606:4700::1111]/", true),
            ("http://registry.example/", true),
            ("https://files.corp/", true),
            ("https://other.corp/", false),
            ("http://localhost/", false),
            ("http://localhost./", false),
            ("http://metadata.google.internal/", false),
            ("http://intranet/", false),
            ("http://printer.local./", false),
            ("data:text/plain,x", false),
        ] {
            assert_eq!(trusted.allows(&text.parse().unwrap()), allowed, "{text}");
        }
    }
}
