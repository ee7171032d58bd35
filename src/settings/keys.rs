//! Every key there is, with what it means, its default and how its text becomes a value.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;
use url::Url;

use super::retention::retention;
use super::rules::rules;
use super::sinks::SinkDraft;
use super::traces::TracesDraft;
use super::{
    AdvisorySource, Auto, DEFAULT_UPSTREAM, GitHub, ReadOnly, RegistrationSetting, Settings, UpstreamSettings,
};
use crate::advisories::Severity;
use crate::auth::{IssuerKind, IssuerSettings, Registration};
use crate::hooks;
use crate::metrics::{Readers, ReadingToken};
use crate::npm::Pattern;
use crate::policy::{Control, UpstreamSwitches};
use crate::providers;
use crate::registry::Redirect;
use crate::secret::Secret;
use crate::sinks::{IndexFormat, SnsFormat};
use crate::storage::{AddressError, BucketSettings, Encryption};
use crate::upstream;

/// A key. A `*` in it stands for a name of the operator's choice.
#[derive(Debug)]
pub struct KeyInfo {
    /// Such as `server.listen`.
    pub key: &'static str,
    /// As it would be written in the file.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Never shown.
    pub is_secret: bool,
    /// A server that runs goes by another value from its next start on.
    pub needs_restart: bool,
    pub(super) set: fn(&mut Draft, &str, &Value) -> Result<(), String>,
}

/// Settings in the making: an upstream is put together from several keys.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) settings: Settings,
    upstreams: BTreeMap<String, UpstreamDraft>,
    github: Option<GitHubDraft>,
    bucket: BucketSettings,
    has_bucket: bool,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    issuers: BTreeMap<String, IssuerDraft>,
    sinks: BTreeMap<String, SinkDraft>,
    metrics_access: MetricsAccess,
    metrics_token: Option<Secret>,
    traces: TracesDraft,
}

/// Who may read the figures, before it is known whether there is a token.
#[derive(Debug, Default, Clone, Copy)]
enum MetricsAccess {
    #[default]
    Local,
    Anyone,
    Token,
}

/// GitHub is used where any of it is set.
#[derive(Debug, Default)]
struct GitHubDraft {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    token: Option<Secret>,
    organizations: Option<Vec<String>>,
    api_url: Option<Url>,
    web_url: Option<Url>,
    remember: Option<Duration>,
    outage: Option<Duration>,
}

#[derive(Debug, Default)]
struct IssuerDraft {
    url: Option<String>,
    kind: Option<IssuerKind>,
    audience: Option<String>,
}

#[derive(Debug, Default)]
struct UpstreamDraft {
    url: Option<Url>,
    packages: Option<Vec<Pattern>>,
    changes: Vec<Change>,
}

/// A setting that is applied once the upstream's address is known.
struct Change(Box<dyn FnOnce(&mut upstream::Settings)>);

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

macro_rules! key {
    (@$secret:literal $restart:literal $key:literal, $default:literal, $meaning:literal, $set:expr) => {
        KeyInfo {
            key: $key,
            default: $default,
            meaning: $meaning,
            is_secret: $secret,
            needs_restart: $restart,
            set: $set,
        }
    };
    (secret restart $($rest:tt)*) => { key!(@true true $($rest)*) };
    (secret $($rest:tt)*) => { key!(@true false $($rest)*) };
    (restart $($rest:tt)*) => { key!(@false true $($rest)*) };
    ($($rest:tt)*) => { key!(@false false $($rest)*) };
}

/// All keys, in the order of the documentation.
pub static KEYS: &[KeyInfo] = &[
    key!(restart
        "server.listen",
        "\"127.0.0.1:4873\"",
        "Address and port to listen on; `127.0.0.1` takes `[::1]` too where it is free, since `localhost` may mean either. On anything but a loopback address, reading needs an account and registration is closed unless `access` says otherwise.",
        |draft, _, value| {
            draft.settings.server.listen = parsed(value, "an address and port such as `127.0.0.1:4873`")?;
            Ok(())
        }
    ),
    key!(
        "server.public_url",
        "none",
        "How clients reach this server, path prefix included. Without it, each request's `Host` is taken, or what a trusted proxy says, or what the front end of AWS Lambda says.",
        |draft, _, value| {
            draft.settings.server.public_url = Some(http_url(value)?);
            Ok(())
        }
    ),
    key!(
        "server.trusted_proxies",
        "[]",
        "Addresses or networks of proxies whose `X-Forwarded-Proto`, `-Host` and `-Prefix` are believed, such as `[\"10.0.0.0/8\"]`.",
        |draft, _, value| {
            draft.settings.server.trusted_proxies = list(value, "a network such as `10.0.0.0/8`", |text| {
                text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
            })?;
            Ok(())
        }
    ),
    key!(restart "server.max_connections", "4096", "Connections at once. Further ones wait.", |draft, _, value| {
        draft.settings.server.max_connections = positive(value)?;
        Ok(())
    }),
    key!(
        restart "server.drain_seconds",
        "30",
        "How long a stop waits for requests under way before it cuts them off.",
        |draft, _, value| {
            draft.settings.server.drain = Duration::from_secs(bytes(value)?.min(3600));
            Ok(())
        }
    ),
    key!(
        "server.idle_seconds",
        "30",
        "How long a client may take for the head of a request, and how long it may then be silent, or take nothing of an answer; up to twice as long where that falls together badly. A body may take twice this, and a second more for each KiB.",
        |draft, _, value| {
            draft.settings.server.idle = Duration::from_secs(bytes(value)?.max(1));
            Ok(())
        }
    ),
    key!(restart
        "storage.directory",
        "\"holdfast-data\"",
        "The data directory. One process owns it at a time. Not used where `storage.url` names a bucket.",
        |draft, _, value| {
            draft.settings.storage.directory = text(value)?.into();
            Ok(())
        }
    ),
    key!(restart
        "storage.url",
        "none",
        "A bucket that any number of processes share: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, with credentials by the platform's usual chain; `memory:` for a trial; `file:///directory` is the same as `storage.directory`.",
        |draft, _, value| {
            let url = text(value)?;
            if let Some(directory) = url.strip_prefix("file://") {
                if !directory.starts_with('/') {
                    return Err(format!("`{url}` must have an absolute path, such as `file:///var/lib/holdfast`"));
                }
                draft.settings.storage.directory = directory.into();
                return Ok(());
            }
            draft.bucket.address = url.parse().map_err(|error: AddressError| error.to_string())?;
            draft.has_bucket = true;
            Ok(())
        }
    ),
    key!(restart
        "storage.endpoint",
        "none",
        "The address of a store that speaks S3 and is not AWS, such as `https://s3.example/`.",
        |draft, _, value| {
            draft.bucket.endpoint = Some(http_url(value)?);
            Ok(())
        }
    ),
    key!(restart "storage.region", "none", "The bucket's region, where the environment does not say it.", |draft, _, value| {
        draft.bucket.region = Some(text(value)?);
        Ok(())
    }),
    key!(restart
        "storage.access_key_id",
        "none",
        "For S3: the id of an access key, where it does not come by the platform's chain.",
        |draft, _, value| {
            draft.access_key_id = Some(text(value)?);
            Ok(())
        }
    ),
    key!(secret restart
        "storage.secret_access_key",
        "none",
        "The secret of that access key; better as a variable than in a file.",
        |draft, _, value| {
            draft.secret_access_key = Some(Secret::new(text(value)?));
            Ok(())
        }
    ),
    key!(restart
        "storage.path_style",
        "auto",
        "`true`: the bucket's name stands in the path of an address; `false`: in its host. By default in the path where there is an endpoint.",
        |draft, _, value| {
            draft.bucket.path_style = Some(boolean(value)?);
            Ok(())
        }
    ),
    key!(restart
        "storage.encryption",
        "\"auto\"",
        "How S3 encrypts what is written: `AES256` by its own keys, `aws:kms` by a key of KMS, `bucket` as the bucket has it. `auto` is `AES256` on AWS and `bucket` at another endpoint, since many stores refuse the header.",
        |draft, _, value| {
            draft.bucket.encryption = match text(value)?.as_str() {
                "auto" => Encryption::Auto,
                "AES256" => Encryption::S3,
                "aws:kms" => Encryption::Kms,
                "bucket" => Encryption::Bucket,
                other => return Err(format!("`{other}` is not `auto`, `AES256`, `aws:kms` or `bucket`")),
            };
            Ok(())
        }
    ),
    key!(restart
        "storage.kms_key",
        "none",
        "The key of KMS for `aws:kms`, by its ARN; the account's own key for S3 without it.",
        |draft, _, value| {
            draft.bucket.kms_key = Some(text(value)?);
            Ok(())
        }
    ),
    key!(restart
        "storage.bucket_key",
        "true",
        "With `aws:kms`: one call of KMS for many objects, which costs less.",
        |draft, _, value| {
            draft.bucket.bucket_key = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart
        "storage.cache_class",
        "none",
        "The storage class of cached objects, below `-/cache/`, such as `ONEZONE_IA`. They come back by themselves when they are lost.",
        |draft, _, value| {
            draft.bucket.cache_class = Some(text(value)?);
            Ok(())
        }
    ),
    key!(restart
        "storage.timeout_seconds",
        "10",
        "How long one request to a bucket may take, from its start to the head of its answer, repetitions included.",
        |draft, _, value| {
            draft.bucket.timeout = Duration::from_secs(bytes(value)?.clamp(1, 600));
            Ok(())
        }
    ),
    key!(restart
        "storage.idle_seconds",
        "20",
        "How long the body of a bucket's answer may bring nothing. It is then taken up where it ended.",
        |draft, _, value| {
            draft.bucket.idle = Duration::from_secs(bytes(value)?.clamp(1, 600));
            Ok(())
        }
    ),
    key!(restart
        "storage.attempts",
        "4",
        "How often a request to a bucket is tried, and how often it is looked what came of a write without a clear answer.",
        |draft, _, value| {
            draft.bucket.attempts = u32::try_from(positive(value)?).map_err(|error| error.to_string())?.min(20);
            Ok(())
        }
    ),
    key!(restart
        "storage.single_writer",
        "false",
        "`true` promises that one process alone writes to the bucket. Only then is a store taken that does not keep the conditions of a write.",
        |draft, _, value| {
            draft.bucket.single_writer = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "storage.fresh_seconds",
        "0",
        "How old what is known of a hosted package may be, where the store is a bucket. With 0 every request sees what any process has published, for one conditional request to the bucket.",
        |draft, _, value| {
            draft.settings.storage.fresh = Duration::from_secs(bytes(value)?.min(3600));
            Ok(())
        }
    ),
    key!(restart
        "storage.staging",
        "none",
        "The folder where uploads to a bucket are staged; the system's folder for temporary files without it. Needs room for the largest tarballs that arrive at once.",
        |draft, _, value| {
            draft.bucket.staging = Some(text(value)?.into());
            Ok(())
        }
    ),
    key!(restart
        "storage.remove_with_stack",
        "none",
        "Inside AWS Lambda: the ARN of a stack of CloudFormation. The function removes the bucket with all that is in it when that stack is deleted, and does nothing else. `deploy/aws/template.yaml` sets it.",
        |draft, _, value| {
            draft.settings.storage.remove_with_stack = Some(text(value)?);
            Ok(())
        }
    ),
    key!(
        "storage.read_only",
        "\"auto\"",
        "`true`: no package can be changed; reading, signing in and the cache of upstreams work. `false`: packages can be changed. `auto`: `true` where the bucket is named by the variable of codebox-npm (`bucket`), which may still be running; `false` elsewhere.",
        |draft, _, value| {
            draft.settings.storage.read_only = match value {
                Value::String(word) if word == "auto" => ReadOnly::Auto,
                other => ReadOnly::Set(boolean(other)?),
            };
            Ok(())
        }
    ),
    key!(restart "cache.memory_bytes", "67108864", "Rendered documents kept in memory, in bytes.", |draft, _, value| {
        draft.settings.cache.memory_bytes = bytes(value)?;
        Ok(())
    }),
    key!(
        "tarballs.redirect",
        "\"auto\"",
        "Where the store is a bucket: `always` sends clients to the bucket for a tarball, by a link that needs no credentials and soon ends; `never` sends every byte through this process; a number of bytes redirects what is larger. `auto` is `always` on AWS Lambda and `never` elsewhere.",
        |draft, _, value| {
            draft.settings.redirect = match value {
                Value::String(text) if text == "auto" => None,
                Value::String(text) if text == "always" => Some(Redirect::Always),
                Value::String(text) if text == "never" => Some(Redirect::Never),
                number => {
                    let above = bytes(number).map_err(|_| "must be `auto`, `always`, `never` or a number of bytes")?;
                    Some(Redirect::Above(above))
                }
            };
            Ok(())
        }
    ),
    key!(
        "tarballs.redirect_seconds",
        "300",
        "How long such a link is good. A download that has begun goes on.",
        |draft, _, value| {
            draft.settings.redirect_lasts = Duration::from_secs(bytes(value)?.clamp(10, 604_800));
            Ok(())
        }
    ),
    key!(
        "limits.tarball_bytes",
        "268435456",
        "The largest tarball that may be published, in bytes.",
        |draft, _, value| {
            draft.settings.limits.body.max_tarball_bytes = bytes(value)?;
            Ok(())
        }
    ),
    key!(
        "limits.document_bytes",
        "33554432",
        "The largest document of a publish request, without its tarball, in bytes.",
        |draft, _, value| {
            draft.settings.limits.body.max_document_bytes =
                usize::try_from(bytes(value)?).map_err(|error| error.to_string())?;
            Ok(())
        }
    ),
    key!(
        "limits.unpacked_bytes",
        "2147483648",
        "What a published tarball may unpack to, in bytes.",
        |draft, _, value| {
            draft.settings.limits.tarball.max_unpacked_bytes = bytes(value)?;
            Ok(())
        }
    ),
    key!("limits.files", "200000", "How many files a published tarball may have.", |draft, _, value| {
        draft.settings.limits.tarball.max_entries = bytes(value)?;
        Ok(())
    }),
    key!(
        "access.anonymous_read",
        "\"auto\"",
        "`open`: anybody may read. `closed`: reading needs an account. `auto`: open on a loopback listener without a proxy or a public URL, closed elsewhere and inside AWS Lambda.",
        |draft, _, value| {
            draft.settings.access.anonymous_read = auto(value)?;
            Ok(())
        }
    ),
    key!(
        "access.registration",
        "\"auto\"",
        "`open`: signing in with a new name makes an account. `invitation`: an operator invites (`holdfast user invite`). `closed`: an operator makes it (`holdfast user add`). An invitation is good whatever is set here. `auto`: open on a loopback listener without a proxy, a public URL or GitHub, closed elsewhere and inside AWS Lambda.",
        |draft, _, value| {
            draft.settings.access.registration = match text(value)?.as_str() {
                "auto" => RegistrationSetting::Auto,
                "open" => RegistrationSetting::Set(Registration::Open),
                "invitation" => RegistrationSetting::Set(Registration::Invitation),
                "closed" => RegistrationSetting::Set(Registration::Closed),
                other => return Err(format!("`{other}` is not `auto`, `open`, `invitation` or `closed`")),
            };
            Ok(())
        }
    ),
    key!(
        "access.owners_only",
        "true",
        "Whether only its owners may change a package that no rule speaks of, as on the public registry. With `false` every account may.",
        |draft, _, value| {
            draft.settings.access.owners_only = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "access.admins",
        "[]",
        "Who may do everything with every package: `user:NAME`, `github:user/NAME`, `github:org/ORG`, `github:team/ORG/TEAM`.",
        |draft, _, value| {
            draft.settings.access.admins =
                list(value, "an account or a group such as `github:team/acme/admins`", str::parse)?;
            Ok(())
        }
    ),
    key!(
        "github.client_id",
        "none",
        "The OAuth app that people sign in with. Its callback URL is the public URL with `-/github/callback` behind it. Turns GitHub on.",
        |draft, _, value| {
            draft.github().client_id = Some(text(value)?);
            Ok(())
        }
    ),
    key!(secret "github.client_secret", "none", "The app's secret. Best set by the environment: `HOLDFAST__GITHUB__CLIENT_SECRET`.", |draft, _, value| {
        draft.github().client_secret = Some(Secret::new(text(value)?));
        Ok(())
    }),
    key!(
        "github.organizations",
        "none",
        "Only members of one of these organisations may sign in. `[\"*\"]` lets every account of GitHub in. Has to be set where GitHub is used.",
        |draft, _, value| {
            let names: Vec<String> = list(value, "an organisation", |text| Ok::<_, String>(text.to_owned()))?;
            draft.github().organizations = Some(names);
            Ok(())
        }
    ),
    key!(secret "github.token", "none", "A token that may ask for people's roles in repositories; needed for `github:repo/…` in rules only. Best set by the environment: `HOLDFAST__GITHUB__TOKEN`.", |draft, _, value| {
        draft.github().token = Some(Secret::new(text(value)?));
        Ok(())
    }),
    key!(
        "github.api_url",
        "\"https://api.github.com/\"",
        "The API of GitHub, or of an Enterprise Server: `https://HOST/api/v3/`. Turns GitHub on.",
        |draft, _, value| {
            draft.github().api_url = Some(http_url(value)?);
            Ok(())
        }
    ),
    key!(
        "github.web_url",
        "follows from `api_url`",
        "Where people sign in, if it is not on the host of the API.",
        |draft, _, value| {
            draft.github().web_url = Some(http_url(value)?);
            Ok(())
        }
    ),
    key!(
        "github.remember_seconds",
        "300",
        "How long what GitHub says of a token and its owner's groups is used without asking again. A removed member gets in for at most this long.",
        |draft, _, value| {
            draft.github().remember = Some(Duration::from_secs(bytes(value)?));
            Ok(())
        }
    ),
    key!(
        "github.outage_seconds",
        "3600",
        "How long it is used when GitHub does not answer. After that a caller is told to come back (503).",
        |draft, _, value| {
            draft.github().outage = Some(Duration::from_secs(bytes(value)?));
            Ok(())
        }
    ),
    key!(
        "issuers.*.url",
        "set for `github` and `gitlab`",
        "An issuer of CI identity tokens, exactly as its tokens name it in `iss`. `github` is GitHub Actions and `gitlab` is gitlab.com unless set otherwise.",
        |draft, name, value| {
            let url = text(value)?;
            http_url(&Value::String(url.clone()))?;
            draft.issuer(name).url = Some(url);
            Ok(())
        }
    ),
    key!(
        "issuers.*.kind",
        "\"github\", \"gitlab\" for those, `generic` for others",
        "How its claims are written: `github`, `gitlab`, or `generic`, by which jobs are told apart by `sub`.",
        |draft, name, value| {
            draft.issuer(name).kind = Some(parsed(value, "`github`, `gitlab` or `generic`")?);
            Ok(())
        }
    ),
    key!(
        "issuers.*.audience",
        "none",
        "An audience that its tokens may have beside `npm:HOST`.",
        |draft, name, value| {
            draft.issuer(name).audience = Some(text(value)?);
            Ok(())
        }
    ),
    key!(
        "package",
        "none",
        "Rules of who may do what, each a `[[package]]` with `name` and lists of principals. See [access.md](access.md).",
        |draft, _, value| {
            draft.settings.access.rules = rules(value)?;
            Ok(())
        }
    ),
    key!(
        "retention",
        "none",
        "Which prereleases of hosted packages `holdfast gc` gives up, each a `[[retention]]` with `packages`, `keep_prereleases`, `older_than` and `protect`. See [maintenance.md](maintenance.md).",
        |draft, _, value| {
            draft.settings.retention = retention(value)?;
            Ok(())
        }
    ),
    key!(
        "packages.claims",
        "[]",
        "Names that are ours and never asked upstream: `name`, `@scope/name`, `@scope/*`.",
        |draft, _, value| {
            draft.settings.packages.claims = list(value, "a name or `@scope/*`", str::parse)?;
            Ok(())
        }
    ),
    key!(
        "packages.proxy",
        "true",
        "Whether upstreams are asked at all. `--no-upstream` sets it to `false`.",
        |draft, _, value| {
            draft.settings.packages.proxy = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "upstreams.*.url",
        "found at the first start",
        "The address of an upstream registry. The upstream `default` is what `--upstream` sets; it is found in this machine's npm configuration at the first start.",
        |draft, name, value| {
            draft.upstream(name).url = Some(http_url(value)?);
            Ok(())
        }
    ),
    key!(
        "upstreams.*.packages",
        "[\"**\"] for `default`",
        "Which names belong to it: `name`, `@scope/*`, `@*/*` or `**`. The most specific pattern decides.",
        |draft, name, value| {
            draft.upstream(name).packages = Some(list(value, "a name, `@scope/*` or `**`", str::parse)?);
            Ok(())
        }
    ),
    key!(secret "upstreams.*.token", "none", "A token sent to it, and to no other host. Best set by the environment: `HOLDFAST__UPSTREAMS__NAME__TOKEN`.", |draft, name, value| {
        let token = Secret::new(text(value)?);
        draft.change(name, |client| client.token = Some(token));
        Ok(())
    }),
    key!(secret "upstreams.*.basic", "none", "`user:password` in base64 (npm's `_auth`), in place of a token.", |draft, name, value| {
        let basic = Secret::new(text(value)?);
        draft.change(name, |client| client.basic = Some(basic));
        Ok(())
    }),
    key!(
        "upstreams.*.trusted_hosts",
        "[]",
        "Further hosts that it may redirect to although they have private addresses. They get no credentials.",
        |draft, name, value| {
            let hosts: Vec<String> = list(value, "a host name", |text| Ok::<_, String>(text.to_owned()))?;
            draft.change(name, |client| client.trusted_hosts = hosts);
            Ok(())
        }
    ),
    key!("upstreams.*.proxy", "none", "An HTTP proxy on the way to it.", |draft, name, value| {
        let proxy = http_url(value)?;
        draft.change(name, |client| client.proxy = Some(proxy));
        Ok(())
    }),
    key!(
        "upstreams.*.fresh_seconds",
        "300",
        "How long its documents are used without asking again, at most.",
        |draft, name, value| {
            let longest = Duration::from_secs(bytes(value)?);
            draft.change(name, move |client| {
                client.freshness.longest = longest;
                client.freshness.default = client.freshness.default.min(longest);
                client.freshness.negative = client.freshness.negative.min(longest);
            });
            Ok(())
        }
    ),
    key!(
        "upstreams.*.timeout_seconds",
        "30",
        "How long it may take to begin an answer, and to send the next piece of one.",
        |draft, name, value| {
            let timeout = Duration::from_secs(bytes(value)?.max(1));
            draft.change(name, move |client| {
                client.header_timeout = timeout;
                client.idle_timeout = timeout;
                client.connect_timeout = client.connect_timeout.min(timeout);
            });
            Ok(())
        }
    ),
    key!("upstreams.*.retries", "2", "How often a failed request is tried again.", |draft, name, value| {
        let retries = u32::try_from(bytes(value)?).map_err(|error| error.to_string())?;
        draft.change(name, move |client| client.retries = retries);
        Ok(())
    }),
    key!(
        "upstreams.*.packument_bytes",
        "67108864",
        "The largest document taken from it, in bytes.",
        |draft, name, value| {
            let limit = bytes(value)?;
            draft.change(name, move |client| client.max_packument_bytes = limit);
            Ok(())
        }
    ),
    key!(
        "upstreams.*.tarball_bytes",
        "536870912",
        "The largest tarball taken from it, in bytes.",
        |draft, name, value| {
            let limit = bytes(value)?;
            draft.change(name, move |client| client.max_tarball_bytes = limit);
            Ok(())
        }
    ),
    key!(
        "upstreams.*.hold_hours",
        "as `policy.hold_hours`",
        "How long its releases are held, where that is not the common time. `0` for a registry of your own.",
        |draft, name, value| {
            draft.switches_of(name).hold = Some(hours(value)?);
            Ok(())
        }
    ),
    key!(
        "upstreams.*.trust_dates",
        "true",
        "Whether its dates of publication are believed. Where not, a version's age counts from when it was first seen here.",
        |draft, name, value| {
            draft.switches_of(name).trust_dates = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.hold_hours",
        "72",
        "How long releases of upstreams are held before they are offered. See [policy.md](policy.md).",
        |draft, _, value| {
            draft.settings.policy.switches.hold = hours(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.hold",
        "\"enforce\"",
        "Whether young releases are withheld (`enforce`), only noted (`observe`) or not looked at (`off`).",
        |draft, _, value| {
            draft.settings.policy.switches.hold_control = control(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.new_dependencies",
        "\"enforce\"",
        "The same for versions that newly add a dependency which is itself held.",
        |draft, _, value| {
            draft.settings.policy.switches.closure = control(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.look_alikes",
        "\"observe\"",
        "The same for packages never asked for before whose name looks like one in use.",
        |draft, _, value| {
            draft.settings.policy.switches.look_alikes = control(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.keep_served",
        "true",
        "Whether a version that was delivered stays offered when a hold would take it back.",
        |draft, _, value| {
            draft.settings.policy.switches.keep_served = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.block_vulnerable",
        "\"never\"",
        "From which severity on vulnerable versions are withheld: `never`, `low`, `moderate`, `high` or `critical`. Malicious ones always are.",
        |draft, _, value| {
            draft.settings.policy.switches.block_vulnerable = match text(value)?.as_str() {
                "never" => None,
                "low" => Some(Severity::Low),
                "moderate" => Some(Severity::Moderate),
                "high" => Some(Severity::High),
                "critical" => Some(Severity::Critical),
                other => return Err(format!("`{other}` is not `never`, `low`, `moderate`, `high` or `critical`")),
            };
            Ok(())
        }
    ),
    key!(
        "policy.only_fixable",
        "true",
        "Whether of vulnerable versions only those are withheld for which a fix exists.",
        |draft, _, value| {
            draft.settings.policy.switches.only_fixable = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "policy.rules",
        "\"policy.toml\", where there is one",
        "The file with rules of your own. It is read again when it changes.",
        |draft, _, value| {
            draft.settings.policy.rules_file = text(value)?.into();
            draft.settings.policy.has_named_rules = true;
            Ok(())
        }
    ),
    key!(restart
        "advisories.source",
        "none",
        "Where malicious and vulnerable versions are known from: OSV records of the npm ecosystem as the URL or the path of a zip archive, or the path of a directory. Without one nothing is known, and only the hold protects.",
        |draft, _, value| {
            let text = text(value)?;
            let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
                return Err("must not have credentials in it: the address is logged".to_owned());
            }
            draft.settings.advisories.source =
                Some(url.map_or_else(|| AdvisorySource::Path(text.into()), AdvisorySource::Url));
            Ok(())
        }
    ),
    key!(restart "advisories.refresh_seconds", "3600", "How often the source is looked at.", |draft, _, value| {
        draft.settings.advisories.refresh = Duration::from_secs(bytes(value)?.max(1));
        Ok(())
    }),
    key!(
        "advisories.answer_audit",
        "false",
        "Whether `npm audit` is answered from the advisories here, without asking an upstream. Works offline.",
        |draft, _, value| {
            draft.settings.advisories.answer_audit = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.kind",
        "none",
        "A place that is told what happens: `webhook`, `npm-hook`, `slack`, `sns`, `file` or `insights`. See [sinks.md](sinks.md). The name has small letters, digits and `-`.",
        |draft, name, value| {
            draft.sink(name)?.kind =
                Some(parsed(value, "`insights`, `webhook`, `npm-hook`, `sns`, `slack` or `file`")?);
            Ok(())
        }
    ),
    key!(secret restart
        "sinks.*.url",
        "set for `insights` and `sns`",
        "Its address, where it is one of the web; `https` unless `allow_http` says otherwise or it is this machine. For `sns` only where it is not the region's own.",
        |draft, name, value| {
            draft.sink(name)?.url = Some(endpoint_url(value)?);
            Ok(())
        }
    ),
    key!(secret restart
        "sinks.*.secret",
        "none",
        "What `webhook` and `npm-hook` sign with, and the secret of `insights`. Best set by the environment: `HOLDFAST__SINKS__NAME__SECRET`.",
        |draft, name, value| {
            draft.sink(name)?.secret = Some(Secret::new(text(value)?));
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.client_id", "none", "As whom `insights` is told.", |draft, name, value| {
        draft.sink(name)?.client_id = Some(text(value)?);
        Ok(())
    }),
    key!(restart
        "sinks.*.topic",
        "none",
        "The topic of `sns`, by its ARN. Credentials come by the platform's usual chain.",
        |draft, name, value| {
            draft.sink(name)?.topic =
                Some(parsed(value, "the ARN of a topic, such as `arn:aws:sns:eu-west-1:123456789012:registry`")?);
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.path", "none", "The file of `file`; its folder has to be there.", |draft, name, value| {
        draft.sink(name)?.path = Some(text(value)?.into());
        Ok(())
    }),
    key!(restart
        "sinks.*.format",
        "\"event\"",
        "The form of a message of `sns`: `event`, or `codebox` as codebox published to its topic.",
        |draft, name, value| {
            draft.sink(name)?.format = Some(match text(value)?.as_str() {
                "event" => SnsFormat::Event,
                "codebox" => SnsFormat::Codebox,
                other => return Err(format!("`{other}` is not `event` or `codebox`")),
            });
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.index_format",
        "\"0.14\"",
        "How `holdfast index --sinks` tells `insights`: `0.14` with the credentials in the body, as codebox's own command did, or `0.15` with them in a header.",
        |draft, name, value| {
            draft.sink(name)?.index_format = Some(match text(value)?.as_str() {
                "0.14" => IndexFormat::InBody,
                "0.15" => IndexFormat::InHeader,
                other => return Err(format!("`{other}` is not `0.14` or `0.15`")),
            });
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.batch", "50", "How many events one request of `webhook` has at most.", |draft, name, value| {
        draft.sink(name)?.batch = Some(positive(value)?.min(500));
        Ok(())
    }),
    key!(restart
        "sinks.*.events",
        "[\"package.*\"]",
        "Which events it is told, by their kinds: `package.publish`, `package.*`, or `*` for all.",
        |draft, name, value| {
            draft.sink(name)?.wants.events =
                list(value, "a kind of event such as `package.publish` or `package.*`", str::parse)?;
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.packages",
        "[\"**\"]",
        "Of which packages: `name`, `@scope/*` and so on. Events of no package are told only with `**`.",
        |draft, name, value| {
            draft.sink(name)?.wants.packages = list(value, "a name or `@scope/*`", str::parse)?;
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.timeout_seconds",
        "10",
        "How long one request may take, its answer included.",
        |draft, name, value| {
            draft.sink(name)?.timeout = Some(Duration::from_secs(bytes(value)?.clamp(1, 120)));
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.tries",
        "20",
        "After how many failures in a row events are given up and put aside, as dead letters. Pauses double from a second to an hour: 20 tries take about nine hours.",
        |draft, name, value| {
            draft.sink(name)?.tries = Some(u32::try_from(positive(value)?).unwrap_or(u32::MAX));
            Ok(())
        }
    ),
    key!(restart
        "sinks.*.allow_http",
        "false",
        "Whether the address may be `http` although it is not this machine: whoever is on the line reads along.",
        |draft, name, value| {
            draft.sink(name)?.allow_http = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart
        "hooks.enabled",
        "false",
        "Whether accounts may have hooks (`npm hook` of npm 6 to 10): this server then sends requests to addresses that they choose. See [sinks.md](sinks.md#hooks-of-accounts).",
        |draft, _, value| {
            draft.settings.hooks.is_on = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart "hooks.per_account", "20", "How many hooks an account may have.", |draft, _, value| {
        draft.settings.hooks.per_account = positive(value)?.min(hooks::MAX_TOTAL);
        Ok(())
    }),
    key!(restart "hooks.total", "500", "How many hooks there may be in all; 2,000 at most.", |draft, _, value| {
        draft.settings.hooks.total = positive(value)?.min(hooks::MAX_TOTAL);
        Ok(())
    }),
    key!(restart
        "hooks.allow_private",
        "false",
        "Whether a hook's address may be one of a private network, this machine's own included: whoever has an account can then have this server send requests there.",
        |draft, _, value| {
            draft.settings.hooks.allow_private = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart
        "hooks.allow_http",
        "false",
        "Whether a hook's address may be `http`: whoever is on the line reads along.",
        |draft, _, value| {
            draft.settings.hooks.allow_http = boolean(value)?;
            Ok(())
        }
    ),
    key!(restart
        "hooks.timeout_seconds",
        "10",
        "How long one request of a hook may take, its answer included.",
        |draft, _, value| {
            draft.settings.hooks.timeout = Duration::from_secs(bytes(value)?.clamp(1, 120));
            Ok(())
        }
    ),
    key!(restart
        "hooks.tries",
        "20",
        "After how many failures in a row a hook is off. Pauses double from a second to an hour: 20 tries take about nine hours.",
        |draft, _, value| {
            draft.settings.hooks.tries = u32::try_from(positive(value)?).unwrap_or(u32::MAX);
            Ok(())
        }
    ),
    key!(
        "log.level",
        "\"info\"",
        "What is logged: `error`, `warn`, `info`, `debug`, or by module as in `info,holdfast::upstream=debug`.",
        |draft, _, value| {
            let level = text(value)?;
            level.parse::<tracing_subscriber::EnvFilter>().map_err(|_| format!("`{level}` is not a log filter"))?;
            draft.settings.log.level = level;
            Ok(())
        }
    ),
    key!(restart
        "log.json",
        "false",
        "Log as JSON lines in place of text. Inside AWS Lambda it is `true` unless it is set.",
        |draft, _, value| {
            draft.settings.log.json = boolean(value)?;
            Ok(())
        }
    ),
    key!(
        "metrics.access",
        "\"local\"",
        "Who may read the figures at `/-/metrics`: `local` for programs of this machine, `anyone`, or `token` for whoever shows `metrics.token`. See [monitoring.md](monitoring.md).",
        |draft, _, value| {
            draft.metrics_access = match text(value)?.as_str() {
                "local" => MetricsAccess::Local,
                "anyone" => MetricsAccess::Anyone,
                "token" => MetricsAccess::Token,
                other => return Err(format!("`{other}` is not `local`, `anyone` or `token`")),
            };
            Ok(())
        }
    ),
    key!(secret "metrics.token", "none", "What the reader of the figures sends as `Authorization: Bearer`, with `metrics.access = \"token\"`. Best set by the environment: `HOLDFAST__METRICS__TOKEN`.", |draft, _, value| {
        draft.metrics_token = Some(Secret::new(text(value)?));
        Ok(())
    }),
    key!(restart
        "traces.otlp_endpoint",
        "none",
        "Where traces are sent: the whole address that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`. Without it, or with an empty one, nothing is recorded. See [monitoring.md](monitoring.md), also for the variables `OTEL_…` that count here.",
        |draft, _, value| draft.traces.set_endpoint(value)
    ),
    key!(secret restart
        "traces.headers",
        "none",
        "Headers that the collector wants, as `name=value` with commas between them, values percent-encoded where they need it: `authorization=Bearer%20…`. Best set by the environment: `HOLDFAST__TRACES__HEADERS` or `OTEL_EXPORTER_OTLP_HEADERS`.",
        |draft, _, value| draft.traces.set_headers(value)
    ),
    key!(restart
        "traces.ratio",
        "1",
        "How many of the traces that begin here are recorded, from 0 to 1. A client's own trace is recorded where the client records it.",
        |draft, _, value| draft.traces.set_ratio(value)
    ),
    key!(restart
        "traces.service_name",
        "\"holdfast\"",
        "What this service is called in traces.",
        |draft, _, value| draft.traces.set_service_name(value)
    ),
    key!(restart
        "traces.attributes",
        "[]",
        "What else is told of this service with its traces, such as `[\"deployment.environment.name=production\"]`.",
        |draft, _, value| draft.traces.set_attributes(value)
    ),
];

impl Draft {
    fn upstream(&mut self, name: &str) -> &mut UpstreamDraft {
        self.upstreams.entry(name.to_owned()).or_default()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut upstream::Settings) + 'static) {
        self.upstream(name).changes.push(Change(Box::new(change)));
    }

    fn switches_of(&mut self, name: &str) -> &mut UpstreamSwitches {
        let all = &mut self.settings.policy.switches.upstreams;
        all.entry(name.to_owned()).or_insert(UpstreamSwitches { hold: None, trust_dates: true })
    }

    fn github(&mut self) -> &mut GitHubDraft {
        self.github.get_or_insert_default()
    }

    fn issuer(&mut self, name: &str) -> &mut IssuerDraft {
        self.issuers.entry(name.to_owned()).or_default()
    }

    /// The sink of a name, which is part of a key.
    fn sink(&mut self, name: &str) -> Result<&mut SinkDraft, String> {
        let is_name =
            name.len() <= 64 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !is_name {
            return Err(format!("`{name}` is no name of a sink: it has small letters, digits and `-`"));
        }
        Ok(self.sinks.entry(name.to_owned()).or_default())
    }

    fn finish_github(&mut self, missing: &mut Vec<String>) {
        const API: &str = "https://api.github.com/";
        let Some(draft) = self.github.take() else { return };
        let Some(api_url) = draft.api_url.or_else(|| API.parse().ok()) else { return };
        let Some(organizations) = draft.organizations else {
            missing.push(
                "`github.organizations` is missing: say whose members may sign in, or `[\"*\"]` for every account of GitHub"
                    .to_owned(),
            );
            return;
        };
        if draft.client_secret.is_some() && draft.client_id.is_none() {
            missing.push("`github.client_id` is missing: `github.client_secret` is the secret of an app".to_owned());
        }
        let mut client = providers::Settings::new(api_url);
        if let Some(web_url) = draft.web_url {
            client.web_url = web_url;
        }
        client.client_id = draft.client_id;
        client.client_secret = draft.client_secret;
        client.service_token = draft.token;
        let remember = draft.remember.unwrap_or(Duration::from_mins(5));
        let lets_all_in = organizations.iter().any(|name| name == "*");
        if organizations.is_empty() || (lets_all_in && organizations.len() > 1) {
            missing.push(
                "`github.organizations` must name organisations, or be `[\"*\"]` for every account of GitHub"
                    .to_owned(),
            );
        }
        self.settings.github = Some(GitHub {
            client,
            organizations: (!lets_all_in).then_some(organizations),
            remember,
            outage: draft.outage.unwrap_or(Duration::from_hours(1)).max(remember),
        });
    }

    /// What is set is put over the issuers that are known.
    fn finish_issuers(&mut self, missing: &mut Vec<String>) {
        for (name, draft) in std::mem::take(&mut self.issuers) {
            let issuers = &mut self.settings.issuers;
            if let Some(known) = issuers.iter_mut().find(|issuer| issuer.name == name) {
                known.url = draft.url.unwrap_or_else(|| known.url.clone());
                known.kind = draft.kind.unwrap_or(known.kind);
                known.audience = draft.audience;
                continue;
            }
            let Some(url) = draft.url else {
                missing.push(format!("`issuers.{name}.url` is missing"));
                continue;
            };
            let kind = draft.kind.unwrap_or(IssuerKind::Generic);
            issuers.push(IssuerSettings { name, url, kind, audience: draft.audience });
        }
    }

    fn finish_metrics(&mut self, missing: &mut Vec<String>) {
        self.settings.metrics_readers = match (self.metrics_access, self.metrics_token.take()) {
            (MetricsAccess::Local, _) => Readers::Local,
            (MetricsAccess::Anyone, _) => Readers::Anyone,
            (MetricsAccess::Token, Some(token)) => Readers::Token(ReadingToken::new(token)),
            (MetricsAccess::Token, None) => {
                missing.push("`metrics.token` is missing: `metrics.access` says that it lets read".to_owned());
                return;
            }
        };
    }

    /// The finished settings, and what is missing in them.
    pub(super) fn finish(mut self) -> (Settings, Vec<String>) {
        let mut missing = Vec::new();
        self.finish_github(&mut missing);
        self.finish_issuers(&mut missing);
        self.finish_metrics(&mut missing);
        self.settings.traces = std::mem::take(&mut self.traces).finish();
        for (name, draft) in std::mem::take(&mut self.sinks) {
            match draft.finish(&name) {
                Ok(sink) => self.settings.sinks.push(sink),
                Err(mistakes) => missing.extend(mistakes),
            }
        }
        self.bucket.access_key = self.access_key_id.zip(self.secret_access_key);
        self.settings.storage.bucket = self.has_bucket.then_some(self.bucket);
        if self.settings.packages.proxy {
            for (name, draft) in self.upstreams {
                let Some(url) = draft.url else {
                    missing.push(format!("`upstreams.{name}.url` is missing"));
                    continue;
                };
                let packages = match draft.packages {
                    Some(packages) => packages,
                    None if name == DEFAULT_UPSTREAM => vec![Pattern::Any],
                    None => {
                        missing.push(format!("`upstreams.{name}.packages` is missing: say which names are its"));
                        continue;
                    }
                };
                let mut client = upstream::Settings::new(name, url);
                draft.changes.into_iter().for_each(|Change(change)| change(&mut client));
                self.settings.upstreams.push(UpstreamSettings { client, packages });
            }
        }
        let switches = &self.settings.policy.switches.upstreams;
        let is_there = |name: &String| self.settings.upstreams.iter().any(|upstream| upstream.client.name == *name);
        if self.settings.packages.proxy {
            missing.extend(
                switches.keys().filter(|name| !is_there(name)).map(|name| format!("`upstreams.{name}.url` is missing")),
            );
        }
        (self.settings, missing)
    }
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::String(_) => Err("must not be empty".to_owned()),
        other => Err(format!("must be a text, not {}", other.type_str())),
    }
}

fn parsed<T: FromStr>(value: &Value, expected: &str) -> Result<T, String> {
    let text = text(value)?;
    text.parse().map_err(|_| format!("`{text}` is not {expected}"))
}

fn http_url(value: &Value) -> Result<Url, String> {
    let expected = "an http or https URL without query, such as `https://npm.example/`";
    let mut url: Url = parsed(value, expected)?;
    if !matches!(url.scheme(), "http" | "https")
        || url.host().is_none()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(format!("`{url}` is not {expected}"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// The whole address of something that is asked there, query included.
pub(super) fn endpoint_url(value: &Value) -> Result<Url, String> {
    let text = text(value)?;
    let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    // Not told what it is: it may be a secret.
    let url = url.ok_or("must be an http or https URL, such as `https://hooks.example/registry`")?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must have neither credentials nor a fragment in it".to_owned());
    }
    Ok(url)
}

/// An array of texts, or, from the environment, texts with commas between them.
pub(super) fn list<T, E: Display>(
    value: &Value,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    let texts: Vec<String> = match value {
        Value::Array(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        Value::String(items) => {
            items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
        }
        other => return Err(format!("must be a list, not {}", other.type_str())),
    };
    texts.iter().map(|item| parse(item).map_err(|_| format!("`{item}` is not {expected}"))).collect()
}

pub(super) fn bytes(value: &Value) -> Result<u64, String> {
    let number = match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => text.replace('_', "").parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "must be a whole number that is not negative".to_owned())
}

fn positive(value: &Value) -> Result<usize, String> {
    match usize::try_from(bytes(value)?) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number of at least 1".to_owned()),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::String(text) => text.parse().map_err(|_| format!("`{text}` is not `true` or `false`")),
        other => Err(format!("must be `true` or `false`, not {}", other.type_str())),
    }
}

/// A number of hours, ten years at most.
fn hours(value: &Value) -> Result<Duration, String> {
    match bytes(value)? {
        hours @ 0..=87_600 => Ok(Duration::from_hours(hours)),
        _ => Err("must be at most 87600, which is ten years".to_owned()),
    }
}

fn control(value: &Value) -> Result<Control, String> {
    match text(value)?.as_str() {
        "enforce" => Ok(Control::Enforce),
        "observe" => Ok(Control::Observe),
        "off" => Ok(Control::Off),
        other => Err(format!("`{other}` is not `enforce`, `observe` or `off`")),
    }
}

fn auto(value: &Value) -> Result<Auto, String> {
    match text(value)?.as_str() {
        "auto" => Ok(Auto::Auto),
        "open" => Ok(Auto::Open),
        "closed" => Ok(Auto::Closed),
        other => Err(format!("`{other}` is not `auto`, `open` or `closed`")),
    }
}
