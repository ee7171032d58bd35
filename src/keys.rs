//! Every object key there is. The only place that makes one.
//!
//! The store mirrors the URL space: what npm reserves (`-/…`) is ours, everything else is a package name. A package name
//! cannot start with `-`, so nothing can collide. `docs/storage-layout.md` says who writes each and when it may go.

use std::fmt;
use std::sync::Arc;

use crate::npm::downloads::Day;
use crate::npm::integrity::{hex, sha256_hex};
use crate::npm::{Form, PackageName, Timestamp, Version};

/// Where an object lies: a relative path of safe parts, joined by `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

/// What an object is to whoever moves a store: whether it goes along, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A package's document, or what else names other objects: goes after them.
    Document,
    /// Bytes that are told by the key, and never change under it.
    Fixed,
    /// Anything else of ours, and the tarballs of an older system.
    Record,
    /// Kept of an upstream; comes back by itself.
    Cached,
    /// Of this place, or of this hour: the search index, sign-ins and uploads under way, what a store was tried on.
    Passing,
    /// Nothing that Holdfast or an older system wrote.
    Foreign,
}

/// The folders of what stays where it is.
const PASSING: [&str; 7] =
    ["-/catalog/", "-/logins/", "-/uploads/", "-/staging/", "-/store/", "-/control/", "-/backup/"];

impl Key {
    /// The key as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key that a store found while listing, or that a backup names. `None` for a path that no key of ours could have, such as one with an
    /// empty part or `..`.
    pub(crate) fn listed(path: &str) -> Option<Self> {
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        path.split('/').all(safe).then(|| Self(path.into()))
    }

    /// Whether the object may be deleted at any time and comes back by itself.
    pub(crate) fn is_cached(&self) -> bool {
        self.0.starts_with("-/cache/")
    }

    /// For the key of a record, the package's name.
    pub fn record_name(&self, upstream: &str) -> Option<PackageName> {
        let folder = records(upstream);
        self.0.strip_prefix(folder.as_str())?.strip_prefix('/')?.strip_suffix("/record.json")?.parse().ok()
    }

    /// For a hosted packument's key, the package's name.
    pub fn packument_name(&self) -> Option<PackageName> {
        self.0.strip_suffix("/index.json")?.parse().ok()
    }

    /// For the key of a batch of events, when its write began.
    pub fn event_instant(&self) -> Option<Timestamp> {
        let mut parts = self.0.strip_prefix("-/events/")?.strip_suffix(".jsonl")?.splitn(3, '/');
        let (day, hour, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (minutes, seconds) = rest.split_once('-')?.0.split_at_checked(2)?;
        format!("{day}T{hour}:{minutes}:{seconds}Z").parse().ok()
    }

    /// For the key of a batch of events, what it is called by: `2026-11-30/04/0506.789-ab.jsonl`.
    pub fn event_batch_name(&self) -> Option<&str> {
        self.event_instant()?;
        self.0.strip_prefix("-/events/")
    }

    /// For the key of a day's counted downloads, what the part of it is called by.
    pub fn download_part(&self) -> Option<&str> {
        let (_, part) = self.0.strip_prefix("-/downloads/")?.strip_suffix(".json")?.split_once('/')?;
        (!part.contains('/')).then_some(part)
    }

    /// For the key of counted downloads, their day.
    pub fn download_day(&self) -> Option<Day> {
        self.download_part()?;
        self.0.strip_prefix("-/downloads/")?.split_once('/')?.0.parse().ok()
    }

    /// For the key of a tarball that an older system left, the package's name and the version's number.
    pub fn legacy_tarball_parts(&self) -> Option<(PackageName, &str)> {
        let (name, file) = self.0.rsplit_once('/')?;
        Some((name.parse().ok()?, file.strip_suffix(".tgz")?))
    }

    /// What it is to whoever moves a store.
    pub fn part(&self) -> Part {
        let key = self.as_str();
        let is_index = || key.starts_with("-/advisories/") && *self != advisories_pointer();
        match () {
            () if key == "-/lock" || PASSING.iter().any(|folder| key.starts_with(folder)) => Part::Passing,
            () if self.is_cached() => Part::Cached,
            () if key.starts_with("-/tarballs/") || key.starts_with("-/events/") || is_index() => Part::Fixed,
            () if self.packument_name().is_some() || *self == advisories_pointer() => Part::Document,
            () if self.is_ours() || self.legacy_tarball_parts().is_some() => Part::Record,
            () => Part::Foreign,
        }
    }

    /// For a hosted tarball's key, the digest in it.
    pub fn tarball_digest(&self) -> Option<&str> {
        let (_, digest) = self.0.strip_prefix("-/tarballs/")?.strip_suffix(".tgz")?.rsplit_once('-')?;
        Some(digest)
    }

    /// Whether the object is one of those below `-/`, which are Holdfast's alone.
    pub fn is_ours(&self) -> bool {
        self.0.starts_with("-/")
    }

    /// What the object is.
    pub fn kind(&self) -> Kind {
        let Some(rest) = self.0.strip_prefix("-/") else {
            let older = || self.legacy_tarball_parts().map(|(name, _)| Kind::OlderTarball(name));
            return self.packument_name().map(Kind::Packument).or_else(older).unwrap_or(Kind::Foreign);
        };
        let (folder, rest) = rest.split_once('/').unwrap_or(("", rest));
        let is_json = rest.strip_suffix(".json").is_some_and(|name| !name.contains('/'));
        let of_package = |ending: &str| {
            let (name, file) = rest.rsplit_once('/')?;
            file.ends_with(ending).then(|| name.parse::<PackageName>().ok()).flatten()
        };
        let found = match folder {
            "tarballs" => of_package(".tgz").map(Kind::Tarball),
            "attestations" => of_package(".json").map(Kind::Attestations),
            "set-aside" => of_package("index.json").map(Kind::SetAside),
            "trust" => rest.strip_suffix(".json").and_then(|name| name.parse().ok()).map(Kind::Trust),
            "cache" => cached_kind(rest),
            "records" => rest.ends_with("/record.json").then_some(Kind::Record),
            "users" => is_json.then_some(Kind::User),
            "tokens" => is_json.then_some(Kind::Token),
            "token-lists" => is_json.then_some(Kind::TokenList),
            "stars" => is_json.then_some(Kind::Stars),
            "github" => is_json.then_some(Kind::GitHubAccount),
            "keys" => is_json.then_some(Kind::SigningKeys),
            "logins" => is_json.then_some(Kind::ShortLived),
            "events" => self.event_instant().map(|_| Kind::Event),
            "policy" => is_json.then_some(Kind::Waivers),
            "downloads" => self.download_part().map(|_| Kind::Downloads),
            "settings" => is_json.then_some(Kind::Settings),
            "sinks" => rest.strip_suffix(".json").map(|_| Kind::Sink),
            "hooks" => is_json.then_some(Kind::Hooks),
            "advisories" if rest == "current.json" => Some(Kind::AdvisoriesPointer),
            "advisories" => rest.strip_suffix(".index").map(|_| Kind::AdvisoriesIndex),
            "uploads" if rest.starts_with("answer-") => Some(Kind::HandedOver),
            "uploads" => Some(Kind::Uploaded),
            "store" if rest.starts_with("trial-") => Some(Kind::StoreTrial),
            "store" | "catalog" | "control" => Some(Kind::Derived),
            "" if rest == "holdfast.toml" => Some(Kind::Derived),
            _ => None,
        };
        found.unwrap_or(Kind::Foreign)
    }
}

/// What an object below `-/cache/` is.
fn cached_kind(rest: &str) -> Option<Kind> {
    let (upstream, rest) = rest.split_once('/')?;
    let (name, file) = rest.rsplit_once('/')?;
    let name: PackageName = name.parse().ok()?;
    match file {
        "full.json" | "abbreviated.json" => Some(Kind::CachedPackument),
        "absent.json" => Some(Kind::CachedAbsence),
        _ => file.strip_suffix(".tgz").map(|_| Kind::CachedTarball { upstream: upstream.to_owned(), name }),
    }
}

/// What an object is, told by its key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A hosted packument.
    Packument(PackageName),
    /// A tarball that an older system left.
    OlderTarball(PackageName),
    /// A hosted tarball, or one that no document names.
    Tarball(PackageName),
    /// A provenance bundle.
    Attestations(PackageName),
    /// A document that was taken out of the way.
    SetAside(PackageName),
    /// The workflows that a package trusts.
    Trust(PackageName),
    /// An upstream's packument.
    CachedPackument,
    /// That an upstream has no such package.
    CachedAbsence,
    /// An upstream's tarball.
    CachedTarball {
        /// The name that its answers are kept under.
        upstream: String,
        /// The package.
        name: PackageName,
    },
    /// What is remembered of an upstream's package.
    Record,
    /// An account.
    User,
    /// A token.
    Token,
    /// The tokens of an account.
    TokenList,
    /// What a user has starred.
    Stars,
    /// What GitHub said of an account.
    GitHubAccount,
    /// An upstream's signing keys.
    SigningKeys,
    /// What ends by itself.
    ShortLived,
    /// A batch of what happened.
    Event,
    /// What was downloaded on a day.
    Downloads,
    /// What the settings were when a server last started.
    Settings,
    /// What persons let through.
    Waivers,
    /// How far a sink has got, or what it did not take.
    Sink,
    /// The hooks of accounts, or how far they have been told.
    Hooks,
    /// Which index of advisories is in force.
    AdvisoriesPointer,
    /// An index of advisories.
    AdvisoriesIndex,
    /// A tarball on its way.
    Uploaded,
    /// An answer on its way.
    HandedOver,
    /// What conditional writes were tried on.
    StoreTrial,
    /// What a process makes anew by itself, or is no object at all.
    Derived,
    /// Nothing of ours.
    Foreign,
}

impl Kind {
    /// In a word, for figures and traces: never with anything of the key in it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Packument(_) => "packument",
            Self::OlderTarball(_) => "older_tarball",
            Self::Tarball(_) => "tarball",
            Self::Attestations(_) => "attestations",
            Self::SetAside(_) => "set_aside",
            Self::Trust(_) => "trust",
            Self::CachedPackument => "cached_packument",
            Self::CachedAbsence => "cached_absence",
            Self::CachedTarball { .. } => "cached_tarball",
            Self::Record => "record",
            Self::User => "user",
            Self::Token => "token",
            Self::TokenList => "token_list",
            Self::Stars => "stars",
            Self::GitHubAccount => "github_account",
            Self::SigningKeys => "signing_keys",
            Self::ShortLived => "short_lived",
            Self::Event => "event",
            Self::Downloads => "downloads",
            Self::Settings => "settings",
            Self::Waivers => "waivers",
            Self::Sink => "sink",
            Self::Hooks => "hooks",
            Self::AdvisoriesPointer => "advisories_pointer",
            Self::AdvisoriesIndex => "advisories_index",
            Self::Uploaded => "uploaded",
            Self::HandedOver => "handed_over",
            Self::StoreTrial => "store_trial",
            Self::Derived => "derived",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text as part of a file's name, which file systems limit to 255 bytes: one that is too long is told by its hash.
/// No version and no hex has a `~`, so nothing can collide.
fn bounded(text: String) -> String {
    const MAX_PART_BYTES: usize = 200;
    if text.len() <= MAX_PART_BYTES { text } else { format!("~{}", sha256_hex(text.as_bytes())) }
}

/// The hosted packument, standard npm JSON: the source of truth for a hosted package, and the commit point of every
/// change to it.
pub fn packument(name: &PackageName) -> Key {
    Key(format!("{name}/index.json").into())
}

/// A hosted tarball. The digest in the key keeps two publishers of one version from touching each other's bytes.
pub fn tarball(name: &PackageName, version: &Version, digest: &str) -> Key {
    Key(format!("-/tarballs/{name}/{}-{digest}.tgz", bounded(version.to_string())).into())
}

/// The folder of all hosted tarballs.
pub fn tarballs() -> Key {
    Key("-/tarballs".into())
}

/// The folder of a package's hosted tarballs.
pub fn tarballs_of(name: &PackageName) -> Key {
    Key(format!("-/tarballs/{name}").into())
}

/// A tarball that an older system (codebox) left, by the number as that system's document spells it, which may be no
/// version of today. `None` for a number that is no part of a path. Written only where the document has the bytes and
/// the file is not there.
pub fn legacy_tarball(name: &PackageName, number: &str) -> Option<Key> {
    let is_safe = !number.is_empty() && !number.contains(|c: char| c == '/' || c.is_control());
    is_safe.then(|| Key(format!("{name}/{number}.tgz").into()))
}

/// The folder of a package's document and of the tarballs that an older system left.
pub fn package(name: &PackageName) -> Key {
    Key(name.as_str().into())
}

/// A document that was taken out of the way for an operator, and may be wanted back.
pub fn set_aside(name: &PackageName) -> Key {
    Key(format!("-/set-aside/{name}/index.json").into())
}

/// The provenance bundle that was published with a version.
pub fn attestations(name: &PackageName, version: &Version, digest: &str) -> Key {
    Key(format!("-/attestations/{name}/{}-{digest}.json", bounded(version.to_string())).into())
}

/// The folder of all provenance bundles.
pub fn all_attestations() -> Key {
    Key("-/attestations".into())
}

/// The folder of the provenance bundles of a package.
pub fn attestations_of(name: &PackageName) -> Key {
    Key(format!("-/attestations/{name}").into())
}

/// The folder of all that came from upstreams and comes back by itself.
pub fn cache() -> Key {
    Key("-/cache".into())
}

/// An upstream's packument as it was received. May be deleted at any time.
pub fn cached_packument(upstream: &str, name: &PackageName, form: Form) -> Key {
    let form = match form {
        Form::Full => "full",
        Form::Abbreviated => "abbreviated",
    };
    Key(format!("-/cache/{upstream}/{name}/{form}.json").into())
}

/// A mark that an upstream had no such package when it was last asked. May be deleted at any time.
pub fn cached_absence(upstream: &str, name: &PackageName) -> Key {
    Key(format!("-/cache/{upstream}/{name}/absent.json").into())
}

/// An upstream's tarball, verified before it was kept. May be deleted at any time.
pub fn cached_tarball(upstream: &str, name: &PackageName, version: &Version) -> Key {
    Key(format!("-/cache/{upstream}/{name}/{}.tgz", bounded(version.to_string())).into())
}

/// What this installation remembers of an upstream's package: first seen, delivered, signatures. Not part of the cache:
/// ages count from it.
pub fn record(upstream: &str, name: &PackageName) -> Key {
    Key(format!("-/records/{upstream}/{name}/record.json").into())
}

/// The folder of all records of an upstream.
pub fn records(upstream: &str) -> Key {
    Key(format!("-/records/{upstream}").into())
}

/// The keys that an upstream signs with, as they were last seen.
pub fn signing_keys(upstream: &str) -> Key {
    Key(format!("-/keys/{upstream}.json").into())
}

/// What persons have let through in spite of the policy.
pub fn waivers() -> Key {
    Key("-/policy/waivers.json".into())
}

/// Which index of advisories is in force.
pub fn advisories_pointer() -> Key {
    Key("-/advisories/current.json".into())
}

/// An index of advisories, by its fingerprint.
pub fn advisories_index(fingerprint: &str) -> Key {
    Key(format!("-/advisories/{fingerprint}.index").into())
}

/// The folder of the record of what happened.
pub fn events() -> Key {
    Key("-/events".into())
}

/// A batch of events whose write began at an instant. Batches sort by it.
pub fn event_batch(began: Timestamp, id: &str) -> Key {
    Key(format!("{}-{id}.jsonl", events_from(began)).into())
}

/// Sorts before all batches of an instant and after all earlier ones: `-/events/2026-11-30/04/0506.789`.
pub fn events_from(instant: Timestamp) -> Key {
    let text = instant.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let (hour, rest) = time.split_once(':').unwrap_or((time, ""));
    Key(format!("-/events/{day}/{hour}/{}", rest.replace(':', "").trim_end_matches('Z')).into())
}

/// The batch of events that is called so; `None` for a text that is no batch's name.
pub fn event_batch_named(name: &str) -> Option<Key> {
    let key = Key::listed(&format!("-/events/{name}"))?;
    key.event_instant().is_some().then_some(key)
}

/// The part of a day's downloads that others were added up into.
pub const ALL_DOWNLOADS: &str = "all";

/// The folder of all counted downloads.
pub fn all_downloads() -> Key {
    Key("-/downloads".into())
}

/// The folder of a day's downloads.
pub fn downloads(day: Day) -> Key {
    Key(format!("-/downloads/{day}").into())
}

/// What one process has counted of a day's downloads.
pub fn downloads_of(day: Day, part: &str) -> Key {
    Key(format!("-/downloads/{day}/{part}.json").into())
}

/// What is kept of the settings, to tell whether they are others.
pub fn recorded_settings() -> Key {
    Key("-/settings/recorded.json".into())
}

/// How far a sink has got.
pub fn sink(name: &str) -> Key {
    Key(format!("-/sinks/{name}.json").into())
}

/// The folder of what a sink did not take.
pub fn dead_letters(sink: &str) -> Key {
    Key(format!("-/sinks/{sink}/dead").into())
}

/// Events that a sink did not take, in the order in which they were given up.
pub fn dead_letter(sink: &str, given_up: Timestamp, id: &str) -> Key {
    let instant = given_up.to_string().replace(':', "");
    Key(format!("-/sinks/{sink}/dead/{instant}-{id}.json").into())
}

/// The hooks that accounts have set up.
pub fn hooks() -> Key {
    Key("-/hooks/hooks.json".into())
}

/// How far the hooks of accounts have been told.
pub fn told_hooks() -> Key {
    Key("-/hooks/told.json".into())
}

/// An account, by its name in hex: user names may hold characters that paths may not. Names that differ by case alone
/// are one account, as on GitHub.
pub fn user(name: &str) -> Key {
    Key(format!("-/users/{}.json", bounded(hex(name.to_lowercase().as_bytes()))).into())
}

/// The folder of all accounts.
pub fn users() -> Key {
    Key("-/users".into())
}

/// The tokens of an account: a list for its owner's eyes. It may name one that is gone, never lack one that works.
pub fn token_list(user: &str) -> Key {
    Key(format!("-/token-lists/{}.json", bounded(hex(user.to_lowercase().as_bytes()))).into())
}

/// What GitHub said last of the owner of a GitHub token, by the SHA-256 of the token. May be deleted at any time.
pub fn github_account(hash: &str) -> Key {
    Key(format!("-/github/{hash}.json").into())
}

/// The folder of what ends by itself after minutes or days; cleared every hour.
pub fn short_lived() -> Key {
    Key("-/logins".into())
}

/// A sign-in, or a confirmation, that waits for a person in a browser; by the SHA-256 of its id.
pub fn login(hash: &str) -> Key {
    Key(format!("-/logins/page-{hash}.json").into())
}

/// A code that confirms one change, by the SHA-256 of account and code.
pub fn one_time_code(hash: &str) -> Key {
    Key(format!("-/logins/code-{hash}.json").into())
}

/// The mark that a CI identity token was used, by the SHA-256 of its issuer and id.
pub fn used_identity(hash: &str) -> Key {
    Key(format!("-/logins/used-{hash}.json").into())
}

/// An invitation to make an account, by the SHA-256 of its code.
pub fn invitation(hash: &str) -> Key {
    Key(format!("-/logins/invitation-{hash}.json").into())
}

/// The record of a token that lasts minutes, by the SHA-256 of the token.
pub fn workflow_token(hash: &str) -> Key {
    Key(format!("-/logins/token-{hash}.json").into())
}

/// A tarball that its publisher has sent to the bucket, and that nothing trusts.
pub fn uploaded(id: &str) -> Key {
    Key(format!("-/uploads/{id}").into())
}

/// Whose upload that is, and for which package.
pub fn upload(id: &str) -> Key {
    Key(format!("-/logins/upload-{id}.json").into())
}

/// The workflows that a package trusts.
pub fn trust(name: &PackageName) -> Key {
    Key(format!("-/trust/{name}.json").into())
}

/// A token's record, by the SHA-256 of the token.
pub fn token(hash: &str) -> Key {
    Key(format!("-/tokens/{hash}.json").into())
}

/// What each user has starred.
pub fn stars(user: &str) -> Key {
    Key(format!("-/stars/{}.json", bounded(hex(user.as_bytes()))).into())
}

/// An answer that a function cannot carry, for its client to fetch; by the SHA-256 of its bytes. Goes after a day.
pub fn handed_over(hash: &str) -> Key {
    Key(format!("-/uploads/answer-{hash}").into())
}

/// The folders of what is not to stay: uploads, sign-ins, indexes of advisories, trials, and documents that were set aside.
pub fn passing() -> [Key; 5] {
    ["-/uploads", "-/logins", "-/advisories", "-/store", "-/set-aside"].map(|folder| Key(folder.into()))
}

/// The folder of all that is not a package's document.
pub fn reserved() -> Key {
    Key("-".into())
}

/// Sorts after all that npm reserves and before all packages: `0` comes right after `/`.
pub fn last_reserved() -> Key {
    Key("-0".into())
}

/// The verdict that a store keeps the conditions of a write.
pub fn store_conditions() -> Key {
    Key("-/store/conditions.txt".into())
}

/// An object on which that is tried.
pub fn store_trial(name: &str) -> Key {
    Key(format!("-/store/trial-{name}").into())
}

/// What a backup has, written when all of it is there.
pub fn backup_manifest() -> Key {
    Key("-/backup/manifest.jsonl".into())
}

/// There while a backup is being restored into a store.
pub fn restore_under_way() -> Key {
    Key("-/backup/restoring.txt".into())
}

/// There while changes may be missing from the search index; gone after an orderly stop.
pub fn index_running() -> Key {
    Key("-/catalog/running".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_events_sort_by_their_instant() {
        let [earlier, later] = ["2026-11-30T04:05:06.789Z", "2026-11-30T10:00:00.000Z"].map(|at| at.parse().unwrap());
        assert_eq!(event_batch(earlier, "ab").as_str(), "-/events/2026-11-30/04/0506.789-ab.jsonl");
        assert_eq!(event_batch(earlier, "ab").event_instant(), Some(earlier));
        assert!(events_from(earlier) < event_batch(earlier, "0") && event_batch(earlier, "f") < events_from(later));
        assert_eq!(events_from(earlier).event_instant(), None);
        let name = event_batch(earlier, "ab").event_batch_name().map(ToOwned::to_owned).unwrap();
        assert_eq!(event_batch_named(&name), Some(event_batch(earlier, "ab")));
        assert_eq!(event_batch_named("../tokens/x.json"), None);
        assert_eq!(event_batch_named("2026-11-30/04/nothing"), None);
    }

    #[test]
    fn every_object_has_a_part_when_a_store_is_moved() {
        let digest = "0123456789abcdef".repeat(2);
        let (name, version) = ("@acme/tool".parse().unwrap(), "1.0.0-rc.1".parse().unwrap());
        let of = |path: &str| Key::listed(path).unwrap().part();
        assert_eq!(packument(&name).part(), Part::Document);
        assert_eq!(advisories_pointer().part(), Part::Document);
        assert_eq!(advisories_index("abc").part(), Part::Fixed);
        assert_eq!(tarball(&name, &version, &digest).part(), Part::Fixed);
        assert_eq!(tarball(&name, &version, &digest).tarball_digest(), Some(&*digest));
        assert_eq!(attestations(&name, &version, &digest).tarball_digest(), None);
        for record in
            [attestations(&name, &version, &digest), user("ann"), token("abc"), trust(&name), set_aside(&name)]
        {
            assert_eq!(record.part(), Part::Record, "{record}");
        }
        assert_eq!(legacy_tarball(&name, "1.0.0").unwrap().part(), Part::Record);
        assert_eq!(cached_tarball("default", &name, &version).part(), Part::Cached);
        for passing in [login("abc"), uploaded("abc"), store_conditions(), index_running(), backup_manifest()] {
            assert_eq!(passing.part(), Part::Passing, "{passing}");
        }
        assert_eq!((of("-/lock"), of("-/staging/1")), (Part::Passing, Part::Passing));
        for foreign in ["notes.txt", "tool/readme.md", ".well-known/x", "Not A Name/index.json"] {
            assert_eq!(of(foreign), Part::Foreign, "{foreign}");
        }
    }

    #[test]
    fn every_part_of_a_key_is_a_possible_file_name() {
        let name: PackageName = "n".repeat(214).parse().unwrap();
        let longest = |last: &str| format!("1.0.0-{}{last}", "v".repeat(249)).parse::<Version>().unwrap();
        let digest = "0123456789abcdef".repeat(2);
        let keys = |last: &str| {
            let version = longest(last);
            [
                tarball(&name, &version, &digest),
                attestations(&name, &version, &digest),
                cached_tarball("default", &name, &version),
                user(&format!("{}{last}", "ü".repeat(106))),
                stars(&format!("{}{last}", "ü".repeat(106))),
            ]
        };
        for (one, other) in keys("1").iter().zip(&keys("2")) {
            assert_ne!(one, other);
            assert!(one.as_str().split('/').all(|part| part.len() <= 255), "{one}");
        }
        let short = "1.0.0-beta.1".parse().unwrap();
        assert_eq!(
            cached_tarball("default", &name, &short).as_str(),
            format!("-/cache/default/{name}/1.0.0-beta.1.tgz")
        );
    }

    #[test]
    fn what_an_object_is_can_be_told_by_its_key() {
        for name in ["tool", "@acme/tool"] {
            let name: PackageName = name.parse().unwrap();
            let version: Version = "1.0.0-rc.1".parse().unwrap();
            let cached = Kind::CachedTarball { upstream: "default-1".to_owned(), name: name.clone() };
            for (key, kind) in [
                (packument(&name), Kind::Packument(name.clone())),
                (tarball(&name, &version, "0a"), Kind::Tarball(name.clone())),
                (legacy_tarball(&name, "1.0").unwrap(), Kind::OlderTarball(name.clone())),
                (set_aside(&name), Kind::SetAside(name.clone())),
                (attestations(&name, &version, "0a"), Kind::Attestations(name.clone())),
                (trust(&name), Kind::Trust(name.clone())),
                (cached_packument("default-1", &name, Form::Full), Kind::CachedPackument),
                (cached_packument("default-1", &name, Form::Abbreviated), Kind::CachedPackument),
                (cached_absence("default-1", &name), Kind::CachedAbsence),
                (cached_tarball("default-1", &name, &version), cached),
                (record("default-1", &name), Kind::Record),
                (signing_keys("default-1"), Kind::SigningKeys),
                (waivers(), Kind::Waivers),
                (downloads_of("2026-11-30".parse().unwrap(), "0a"), Kind::Downloads),
                (recorded_settings(), Kind::Settings),
                (sink("chat"), Kind::Sink),
                (dead_letter("chat", Timestamp::from_millis(0), "0a"), Kind::Sink),
                (hooks(), Kind::Hooks),
                (told_hooks(), Kind::Hooks),
                (advisories_pointer(), Kind::AdvisoriesPointer),
                (advisories_index("0a"), Kind::AdvisoriesIndex),
                (event_batch(Timestamp::from_millis(0), "0a"), Kind::Event),
                (user("Ann"), Kind::User),
                (token_list("Ann"), Kind::TokenList),
                (token("0a"), Kind::Token),
                (stars("Ann"), Kind::Stars),
                (github_account("0a"), Kind::GitHubAccount),
                (login("0a"), Kind::ShortLived),
                (one_time_code("0a"), Kind::ShortLived),
                (used_identity("0a"), Kind::ShortLived),
                (invitation("0a"), Kind::ShortLived),
                (workflow_token("0a"), Kind::ShortLived),
                (upload("0a"), Kind::ShortLived),
                (uploaded("0a"), Kind::Uploaded),
                (handed_over("0a"), Kind::HandedOver),
                (store_conditions(), Kind::Derived),
                (store_trial("0a"), Kind::StoreTrial),
                (index_running(), Kind::Derived),
            ] {
                assert_eq!(key.kind(), kind, "{key}");
            }
        }
        for foreign in
            ["index.json", "notes.txt", "a/b/c/index.json", ".hidden/index.json", "-/tarballs/x.tgz", "-/x/y"]
        {
            assert_eq!(Key::listed(foreign).unwrap().kind(), Kind::Foreign, "{foreign}");
        }
    }
}
