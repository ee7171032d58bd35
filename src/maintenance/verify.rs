//! `holdfast verify`: is everything there, and is it what it should be.
//!
//! First every object by itself, in the order of the list; then package by package what its document names; then what was
//! cached. What looks wrong is looked at a second time before it is told, since others may have been changing it: a publish
//! writes the tarball before the document, an unpublish the document before it removes the tarball.
//!
//! A repair loses nothing and is a conditional write: what cannot be read is never written over.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::finding::{Code, Finding, Severity};
use super::hosted::{self, Document, Named};
use super::{AT_ONCE, groups, is_older, listing};
use crate::auth::{Account, ListedToken, TokenRecord, TrustedPublisher, has_ended};
use crate::clock::Clock;
use crate::keys::{self, Key, Kind};
use crate::npm::packument::{EditError, HostedPackument, Plan};
use crate::npm::{Form, Integrity, PackageName, RawObject, Timestamp, Version};
use crate::registry::kept_body;
use crate::storage::{self, Change, Listed, Store, UpdateError};
use crate::takeover::{self, digests_of, examine};
use crate::{policy, random};

/// The largest object that is read whole. None of ours comes near, but for tarballs, which are read as streams.
const MAX_OBJECT_BYTES: u64 = 256 << 20;
/// How long what has ended, or is on its way, may lie until it counts as left behind.
const LEFT_AFTER: Duration = Duration::from_hours(24);
/// A store that fails so often in a row is away, and nothing can be said of what it holds.
const FAILURES_IN_A_ROW: u32 = 10;

/// How closely a store is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Reads every byte of tarballs and cached documents. Without it, that they are there is enough.
    pub content: bool,
    /// Mends what loses nothing.
    pub repair: bool,
    /// How old something that no document names must be to be told of.
    pub grace: Duration,
}

/// What was looked at, and how many findings there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Objects in the store.
    pub objects: u64,
    /// Their size together.
    pub bytes: u64,
    /// Hosted packages, those included that were removed.
    pub packages: u64,
    /// Their versions.
    pub versions: u64,
    /// Findings that somebody has to look at.
    pub problems: u64,
    /// Findings that only take room.
    pub leftovers: u64,
    /// Findings of both kinds that were mended.
    pub repaired: u64,
}

impl Checked {
    /// True where somebody has to do something.
    pub fn has_problems(&self) -> bool {
        self.problems > 0
    }

    fn count(&mut self, finding: &Finding) {
        match (finding.repaired, finding.code.severity()) {
            (true, _) => self.repaired += 1,
            (false, Severity::Problem) => self.problems += 1,
            (false, Severity::Leftover) => self.leftovers += 1,
        }
    }
}

/// Goes through a store. `told` gets each finding as it is found, and after each step what was looked at so far.
///
/// # Errors
/// The store is away: nothing is known of the rest.
pub async fn verify(
    store: &Store,
    clock: &Clock,
    look: Look,
    mut told: impl FnMut(&Checked, Option<&Finding>),
) -> Result<Checked, storage::Error> {
    let verifier = Verifier { store, clock, look };
    let mut checked = Checked::default();
    let mut names = verifier.each_object(&mut checked, &mut told).await?;
    verifier.each_package(&mut names, &mut checked, &mut told).await?;
    verifier.each_bundle(&mut checked, &mut told).await?;
    if look.content {
        verifier.each_cached_package(&mut checked, &mut told).await?;
    }
    Ok(checked)
}

/// Names of packages, gathered from the first pass through the store.
#[derive(Default)]
struct Names {
    /// That have a document.
    documents: BTreeSet<PackageName>,
    /// That have tarballs which an older system left.
    older_tarballs: BTreeSet<PackageName>,
}

/// What was found of one package.
#[derive(Default)]
struct Found {
    versions: u64,
    findings: Vec<Finding>,
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        Self { versions: 0, findings: vec![finding] }
    }
}

struct Verifier<'a> {
    store: &'a Store,
    clock: &'a Clock,
    look: Look,
}

/// Counts findings and tells of them.
fn tell(checked: &mut Checked, findings: &[Finding], told: &mut impl FnMut(&Checked, Option<&Finding>)) {
    for finding in findings {
        checked.count(finding);
        told(checked, Some(finding));
    }
    told(checked, None);
}

fn tell_package(
    name: &PackageName,
    outcome: Result<Found, storage::Error>,
    checked: &mut Checked,
    failures: &mut u32,
    told: &mut impl FnMut(&Checked, Option<&Finding>),
) -> Result<(), storage::Error> {
    let outcome = outcome.map(|found| {
        checked.versions += found.versions;
        found.findings
    });
    tell(checked, &or_unreadable(outcome, &keys::packument(name), failures)?, told);
    Ok(())
}

impl Verifier<'_> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The first pass: what can be said of an object without any other.
    async fn each_object(
        &self,
        checked: &mut Checked,
        told: &mut impl FnMut(&Checked, Option<&Finding>),
    ) -> Result<Names, storage::Error> {
        let mut names = Names::default();
        let objects = listing(self.store.list_objects(None));
        let looks = objects.map(|listed| async move {
            let listed = listed?;
            let kind = listed.key.kind();
            let findings = self.object(&listed, &kind).await;
            Ok::<_, storage::Error>((listed, kind, findings))
        });
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        let mut failures = 0;
        while let Some((listed, kind, outcome)) = looks.try_next().await? {
            checked.objects += 1;
            checked.bytes += listed.size_bytes;
            match kind {
                Kind::Packument(name) => {
                    names.documents.insert(name);
                }
                Kind::OlderTarball(name) => {
                    names.older_tarballs.insert(name);
                }
                _ => {}
            }
            tell(checked, &or_unreadable(outcome, &listed.key, &mut failures)?, told);
        }
        Ok(names)
    }

    async fn object(&self, listed: &Listed, kind: &Kind) -> Result<Vec<Finding>, storage::Error> {
        let key = &listed.key;
        let left = |code, age| is_older(listed, age, self.now()).then(|| Finding::new(code, key)).into_iter().collect();
        match kind {
            // Looked at with what belongs to them, in the passes that follow.
            Kind::Packument(_)
            | Kind::OlderTarball(_)
            | Kind::Tarball(_)
            | Kind::Attestations(_)
            | Kind::CachedTarball { .. }
            | Kind::CachedAbsence
            | Kind::AdvisoriesIndex
            | Kind::Derived => Ok(Vec::new()),
            Kind::Foreign if key.as_str().ends_with("/index.json") && !key.is_ours() => {
                Ok(vec![Finding::new(Code::IllegalName, key)])
            }
            Kind::Foreign => Ok(vec![Finding::new(Code::ForeignObject, key)]),
            Kind::Uploaded | Kind::HandedOver => Ok(left(Code::LeftUpload, LEFT_AFTER)),
            Kind::StoreTrial => Ok(left(Code::LeftTrial, LEFT_AFTER)),
            Kind::CachedPackument => self.cached_document(key).await,
            Kind::ShortLived => self.short_lived(listed).await,
            Kind::Token => self.token(key).await,
            Kind::User => self.user(key).await,
            Kind::TokenList => self.parses::<Vec<ListedToken>>(key).await,
            Kind::Trust(_) => self.parses::<Vec<TrustedPublisher>>(key).await,
            Kind::Stars => self.parses::<BTreeSet<String>>(key).await,
            Kind::Record => self.parses::<policy::Record>(key).await,
            Kind::Event => self.batch(key).await,
            Kind::SetAside(_)
            | Kind::GitHubAccount
            | Kind::SigningKeys
            | Kind::Waivers
            | Kind::Downloads
            | Kind::Settings
            | Kind::Sink
            | Kind::Hooks
            | Kind::AdvisoriesPointer => self.parses::<IgnoredAny>(key).await,
        }
    }

    /// An object's bytes; `None` for one that has gone since it was listed.
    async fn read(&self, key: &Key) -> Result<Option<Bytes>, storage::Error> {
        match self.store.snapshot_unless(key, None, MAX_OBJECT_BYTES).await {
            Ok(found) => Ok(found.map(|found| found.bytes)),
            Err(storage::Error::NotFound) => Ok(None),
            // Not ours, whatever it is.
            Err(storage::Error::TooLarge) => Ok(Some(Bytes::new())),
            Err(error) => Err(error),
        }
    }

    async fn parsed<T: DeserializeOwned>(&self, key: &Key) -> Result<Parsed<T>, storage::Error> {
        let Some(bytes) = self.read(key).await? else { return Ok(Parsed::Gone) };
        Ok(serde_json::from_slice(&bytes).map_or(Parsed::Damaged, Parsed::Value))
    }

    async fn parses<T: DeserializeOwned>(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        Ok(match self.parsed::<T>(key).await? {
            Parsed::Damaged => vec![Finding::new(Code::DamagedObject, key)],
            Parsed::Gone | Parsed::Value(_) => Vec::new(),
        })
    }

    /// A batch of events: each line is one.
    async fn batch(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        let Some(bytes) = self.read(key).await? else { return Ok(Vec::new()) };
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let is_sound = !bytes.is_empty() && lines.all(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok());
        Ok(if is_sound { Vec::new() } else { vec![Finding::new(Code::DamagedObject, key)] })
    }

    async fn user(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        Ok(match self.parsed::<Account>(key).await? {
            Parsed::Damaged => vec![Finding::new(Code::DamagedObject, key)],
            Parsed::Value(account) if keys::user(&account.name) != *key => {
                vec![Finding::new(Code::MisplacedAccount, key).part(account.name)]
            }
            Parsed::Gone | Parsed::Value(_) => Vec::new(),
        })
    }

    /// A token, and whether its owner's list has it. The list is written before the token and cleaned after it.
    async fn token(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        let record = match self.parsed::<TokenRecord>(key).await? {
            Parsed::Gone => return Ok(Vec::new()),
            Parsed::Damaged => return Ok(vec![Finding::new(Code::DamagedObject, key)]),
            Parsed::Value(record) => record,
        };
        let Some(hash) = token_hash(key) else { return Ok(vec![Finding::new(Code::ForeignObject, key)]) };
        let list = keys::token_list(&record.user);
        let listed = match self.parsed::<Vec<ListedToken>>(&list).await? {
            // Told of by itself, and never written over.
            Parsed::Damaged => return Ok(Vec::new()),
            Parsed::Gone => false,
            Parsed::Value(listed) => listed.iter().any(|token| token.hash == hash),
        };
        // Revoked since it was listed.
        if listed || self.store.size(key).await.is_err() {
            return Ok(Vec::new());
        }
        let mut finding = Finding::new(Code::UnlistedToken, &list).part(&hash[..12]);
        if self.look.repair {
            finding.repaired = self.list_token(&list, ListedToken { hash: hash.to_owned(), record }).await?;
        }
        Ok(vec![finding])
    }

    /// Adds a token to its owner's list; false where the list cannot be read.
    async fn list_token(&self, list: &Key, token: ListedToken) -> Result<bool, storage::Error> {
        let add = move |stored: Option<Bytes>| {
            let stored: Option<Vec<ListedToken>> = stored.map(|stored| serde_json::from_slice(&stored)).transpose()?;
            let mut tokens = stored.unwrap_or_default();
            if tokens.iter().any(|known| known.hash == token.hash) {
                return Ok(Change::Keep(()));
            }
            tokens.push(token);
            Ok::<_, serde_json::Error>(Change::Write(serde_json::to_vec(&tokens)?.into(), ()))
        };
        written(self.store.update(list, add).await)
    }

    async fn short_lived(&self, listed: &Listed) -> Result<Vec<Finding>, storage::Error> {
        let key = &listed.key;
        let Some(stored) = self.read(key).await? else { return Ok(Vec::new()) };
        let day_ago = Timestamp::from_millis(self.now().as_millis() - 86_400_000);
        if !is_older(listed, LEFT_AFTER, self.now()) || !has_ended(&stored, day_ago) {
            return Ok(Vec::new());
        }
        let mut finding = Finding::new(Code::EndedLogin, key);
        finding.repaired = self.look.repair && removed(self.store.delete(key).await)?;
        Ok(vec![finding])
    }

    async fn cached_document(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        if !self.look.content {
            return Ok(Vec::new());
        }
        match self.read(key).await? {
            Some(object) if kept_body(&object).is_none() => self.damaged_cache(key).await,
            _ => Ok(Vec::new()),
        }
    }

    /// A cached object may go at any time.
    async fn damaged_cache(&self, key: &Key) -> Result<Vec<Finding>, storage::Error> {
        let mut finding = Finding::new(Code::DamagedCache, key);
        finding.repaired = self.look.repair && removed(self.store.delete(key).await)?;
        Ok(vec![finding])
    }

    /// The second pass: packages. First those that have tarballs, as the list of tarballs brings them, then the rest.
    async fn each_package(
        &self,
        names: &mut Names,
        checked: &mut Checked,
        told: &mut impl FnMut(&Checked, Option<&Finding>),
    ) -> Result<(), storage::Error> {
        let of_tarball = |key: &Key| match key.kind() {
            Kind::Tarball(name) => Some(name),
            _ => None,
        };
        let with_tarballs = groups(self.store.list_objects(Some(&keys::tarballs())), of_tarball);
        let looks = with_tarballs.map(|group| async move {
            let (name, tarballs) = group?;
            let found = self.package(&name, tarballs).await;
            Ok::<_, storage::Error>((name, found))
        });
        let mut failures = 0;
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        while let Some((name, outcome)) = looks.try_next().await? {
            checked.packages += u64::from(names.documents.remove(&name));
            tell_package(&name, outcome, checked, &mut failures, told)?;
        }
        let rest = std::mem::take(&mut names.documents);
        checked.packages += rest.len() as u64;
        let looks = stream::iter(rest).map(|name| async move {
            let found = self.package(&name, Vec::new()).await;
            (name, found)
        });
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        while let Some((name, outcome)) = looks.next().await {
            tell_package(&name, outcome, checked, &mut failures, told)?;
        }
        for name in &names.older_tarballs {
            let outcome = self.older_tarballs(name).await;
            tell_package(name, outcome, checked, &mut failures, told)?;
        }
        Ok(())
    }

    /// A package, looked at twice where something is wrong with it.
    async fn package(&self, name: &PackageName, tarballs: Vec<Listed>) -> Result<Found, storage::Error> {
        let found = self.look_at_package(name, tarballs).await?;
        if found.findings.is_empty() {
            return Ok(found);
        }
        // After the document, so that what it names has been written.
        let mut tarballs = Vec::new();
        let mut listed = self.store.list_objects(Some(&keys::tarballs_of(name)));
        while let Some(tarball) = listed.recv().await {
            tarballs.push(tarball?);
        }
        let mut found = self.look_at_package(name, tarballs).await?;
        let is_mendable = |finding: &Finding| matches!(finding.code, Code::DanglingTag | Code::NoLatest);
        if self.look.repair && found.findings.iter().any(is_mendable) {
            let is_repaired = self.mend_tags(name).await?;
            found.findings.iter_mut().filter(|found| is_mendable(found)).for_each(|found| found.repaired = is_repaired);
        }
        Ok(found)
    }

    async fn look_at_package(&self, name: &PackageName, tarballs: Vec<Listed>) -> Result<Found, storage::Error> {
        let stored = match hosted::document(self.store, name).await? {
            Document::Unknown(code) => return Ok(Finding::new(code, &keys::packument(name)).into()),
            Document::None => Bytes::new(),
            Document::Read(stored) => stored,
        };
        let (mut found, named) = describe(name, &stored);
        let is_of_older_system = found.findings.iter().any(|finding| finding.code == Code::OlderDocument);
        let listed: BTreeMap<&Key, &Listed> = tarballs.iter().map(|listed| (&listed.key, listed)).collect();
        if is_of_older_system {
            found.findings.extend(self.older_package(name, &stored).await?);
        } else {
            for version in &named {
                found.findings.extend(self.tarball(version, listed.get(&version.tarball).copied()).await?);
                found.findings.extend(self.attestations(version).await?);
            }
        }
        let known: BTreeSet<&Key> = named.iter().map(|named| &named.tarball).collect();
        let orphans = tarballs.iter().filter(|listed| !known.contains(&listed.key));
        let old = orphans.filter(|orphan| is_older(orphan, self.look.grace, self.now()));
        found.findings.extend(old.map(|orphan| Finding::new(Code::OrphanTarball, &orphan.key)));
        Ok(found)
    }

    /// The tarball of a version: that it is there, and, where content is looked at, that it is the one that was published.
    async fn tarball(&self, named: &Named, listed: Option<&Listed>) -> Result<Option<Finding>, storage::Error> {
        let finding = |code| Ok(Some(Finding::new(code, &named.tarball).part(&named.number)));
        if !self.look.content {
            let size = match listed {
                Some(listed) => Ok(listed.size_bytes),
                None => self.store.size(&named.tarball).await,
            };
            return match size {
                Ok(0) => finding(Code::WrongTarball),
                Ok(_) => Ok(None),
                Err(storage::Error::NotFound) => finding(Code::MissingTarball),
                Err(error) => Err(error),
            };
        }
        let opened = match self.store.open_object(&named.tarball).await {
            Err(storage::Error::NotFound) => return finding(Code::MissingTarball),
            other => other?,
        };
        let measured = match digests_of(opened).await {
            Err(storage::Error::NotFound) => return finding(Code::MissingTarball),
            other => other?,
        };
        let is_keys = named.digest.as_ref().is_none_or(|digest| digest.starts_with(&measured.short()));
        let is_claimed = named.claims.iter().all(|claim| claim.matches(&measured) != Some(false));
        if is_keys && is_claimed { Ok(None) } else { finding(Code::WrongTarball) }
    }

    /// The provenance bundle of a version, where the document says that there is one.
    async fn attestations(&self, named: &Named) -> Result<Option<Finding>, storage::Error> {
        let Some(key) = named.attestations.as_ref().filter(|_| named.has_attestations) else { return Ok(None) };
        match self.store.size(key).await {
            Ok(_) => Ok(None),
            Err(storage::Error::NotFound) => Ok(Some(Finding::new(Code::MissingAttestations, key).part(&named.number))),
            Err(error) => Err(error),
        }
    }

    /// A package whose document an older system wrote: its tarballs may be inside.
    async fn older_package(&self, name: &PackageName, stored: &Bytes) -> Result<Vec<Finding>, storage::Error> {
        let Ok(Some(plan)) = Plan::of(stored) else { return Ok(Vec::new()) };
        let look = takeover::Look { measures: self.look.content, writes: false };
        let examined = examine(self.store, name, plan, look).await?;
        let findings = |code: Code, numbers: Vec<String>| {
            numbers.into_iter().map(move |number| Finding::new(code, &keys::packument(name)).part(number))
        };
        let missing = findings(Code::MissingTarball, examined.missing);
        Ok(missing.chain(findings(Code::WrongTarball, examined.wrong)).collect())
    }

    /// Tarballs of an older system that no document names.
    async fn older_tarballs(&self, name: &PackageName) -> Result<Found, storage::Error> {
        let mut unnamed = Vec::new();
        let mut listed = self.store.list_objects(Some(&keys::package(name)));
        while let Some(found) = listed.recv().await {
            let found = found?;
            if found.key.kind() == Kind::OlderTarball(name.clone()) {
                unnamed.push(found.key);
            }
        }
        // After the list: what is written meanwhile is named by now.
        match hosted::document(self.store, name).await? {
            Document::Unknown(_) => unnamed.clear(),
            Document::None => {}
            Document::Read(stored) => {
                if let Ok(document) = HostedPackument::parse(&stored) {
                    let named = hosted::named_keys(name, &document);
                    unnamed.retain(|key| !named.contains(key));
                }
            }
        }
        let findings = unnamed.iter().map(|key| Finding::new(Code::UnnamedOlderTarball, key)).collect();
        Ok(Found { versions: 0, findings })
    }

    /// Mends the tags of a document of ours; false where there is nothing to mend any more, or nothing that can be.
    async fn mend_tags(&self, name: &PackageName) -> Result<bool, storage::Error> {
        let now = self.now();
        let mend = move |stored: Option<Bytes>| {
            let Some(stored) = stored else { return Ok(Change::Keep(false)) };
            let mut document = HostedPackument::parse(&stored)?;
            if document.is_older() || !document.mend_tags() {
                return Ok(Change::Keep(false));
            }
            Ok::<_, EditError>(Change::Write(document.into_stored(&random::id(), now)?.into(), true))
        };
        let is_mended = match self.store.update(&keys::packument(name), mend).await {
            Ok(is_mended) => is_mended,
            Err(UpdateError::Refused(_)) => false,
            Err(UpdateError::Store(error)) => return Err(error),
        };
        if is_mended {
            super::index_is_behind(self.store).await?;
        }
        Ok(is_mended)
    }

    /// The third pass: provenance bundles.
    async fn each_bundle(
        &self,
        checked: &mut Checked,
        told: &mut impl FnMut(&Checked, Option<&Finding>),
    ) -> Result<(), storage::Error> {
        let of_bundle = |key: &Key| match key.kind() {
            Kind::Attestations(name) => Some(name),
            _ => None,
        };
        let bundles = groups(self.store.list_objects(Some(&keys::all_attestations())), of_bundle);
        let looks = bundles.map(|group| async move {
            let (name, bundles) = group?;
            let findings = self.bundles(&name, bundles).await;
            Ok::<_, storage::Error>((name, findings))
        });
        let mut failures = 0;
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        while let Some((name, outcome)) = looks.try_next().await? {
            tell(checked, &or_unreadable(outcome, &keys::attestations_of(&name), &mut failures)?, told);
        }
        Ok(())
    }

    async fn bundles(&self, name: &PackageName, bundles: Vec<Listed>) -> Result<Vec<Finding>, storage::Error> {
        let mut findings = Vec::new();
        for bundle in &bundles {
            findings.extend(self.parses::<IgnoredAny>(&bundle.key).await?);
        }
        let named = match hosted::document(self.store, name).await? {
            Document::Unknown(_) => return Ok(findings),
            Document::None => BTreeSet::new(),
            Document::Read(stored) => {
                HostedPackument::parse(&stored).map(|document| hosted::named_keys(name, &document)).unwrap_or_default()
            }
        };
        let orphans = bundles.iter().filter(|bundle| !named.contains(&bundle.key));
        let old = orphans.filter(|orphan| is_older(orphan, self.look.grace, self.now()));
        findings.extend(old.map(|orphan| Finding::new(Code::OrphanAttestations, &orphan.key)));
        Ok(findings)
    }

    /// The last pass: tarballs of upstreams, by what the kept document says of them.
    async fn each_cached_package(
        &self,
        checked: &mut Checked,
        told: &mut impl FnMut(&Checked, Option<&Finding>),
    ) -> Result<(), storage::Error> {
        let of_cached = |key: &Key| match key.kind() {
            Kind::CachedTarball { upstream, name } => Some((upstream, name)),
            _ => None,
        };
        let looks = groups(self.store.list_objects(Some(&keys::cache())), of_cached).map(|group| async move {
            let ((upstream, name), tarballs) = group?;
            let findings = self.cached_tarballs(&upstream, &name, tarballs).await;
            Ok::<_, storage::Error>((keys::cached_packument(&upstream, &name, Form::Full), findings))
        });
        let mut failures = 0;
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        while let Some((key, outcome)) = looks.try_next().await? {
            tell(checked, &or_unreadable(outcome, &key, &mut failures)?, told);
        }
        Ok(())
    }

    async fn cached_tarballs(
        &self,
        upstream: &str,
        name: &PackageName,
        tarballs: Vec<Listed>,
    ) -> Result<Vec<Finding>, storage::Error> {
        let mut findings = Vec::new();
        let expected = self.expected_of_upstream(upstream, name).await?;
        for tarball in &tarballs {
            // A version that the kept document lacks: nothing is known of it.
            let Some(integrity) = expected.get(&tarball.key) else { continue };
            let opened = match self.store.open_object(&tarball.key).await {
                Err(storage::Error::NotFound) => continue,
                other => other?,
            };
            let mut verifier = integrity.verifier();
            let mut bytes = Box::pin(opened.stream_all());
            while let Some(piece) = bytes.try_next().await? {
                verifier.update(&piece);
            }
            if !verifier.finish() {
                findings.extend(self.damaged_cache(&tarball.key).await?);
            }
        }
        Ok(findings)
    }

    /// What an upstream's kept document says of the tarballs, by the key that each has here.
    async fn expected_of_upstream(
        &self,
        upstream: &str,
        name: &PackageName,
    ) -> Result<BTreeMap<Key, Integrity>, storage::Error> {
        for form in [Form::Full, Form::Abbreviated] {
            let Some(object) = self.read(&keys::cached_packument(upstream, name, form)).await? else { continue };
            let Some(body) = kept_body(&object) else { continue };
            return Ok(integrities(upstream, name, &body));
        }
        Ok(BTreeMap::new())
    }
}

/// What a document says of itself, and which tarballs it names.
fn describe(name: &PackageName, stored: &[u8]) -> (Found, Vec<Named>) {
    if stored.is_empty() {
        return (Found::default(), Vec::new());
    }
    let key = keys::packument(name);
    let Ok(document) = HostedPackument::parse(stored) else {
        return (Finding::new(Code::DamagedDocument, &key).into(), Vec::new());
    };
    let (named, mut findings) = hosted::named(name, &document);
    let finding = |code| Finding::new(code, &key);
    if document.name().is_some_and(|own| own != name.as_str()) {
        findings.push(finding(Code::NameDiffers));
    }
    let versions = document.version_numbers().count() as u64;
    if document.is_older() {
        // No times, no revision, tags as they came: its first change mends all of it.
        findings.push(finding(Code::OlderDocument));
        return (Found { versions, findings }, named);
    }
    let generation = document.revision().split_once('-').map(|(number, _)| number.parse::<u64>());
    if !matches!(generation, Some(Ok(_))) {
        findings.push(finding(Code::NoRevision));
    }
    for (tag, _) in document.dist_tags().iter().filter(|(_, number)| document.version(number).is_none()) {
        findings.push(finding(Code::DanglingTag).part(tag));
    }
    if versions > 0 && !document.dist_tags().contains_key("latest") {
        findings.push(finding(Code::NoLatest));
    }
    let untimed = document.version_numbers().filter(|number| document.published_at(number).is_none());
    findings.extend(untimed.map(|number| finding(Code::NoTime).part(number)));
    (Found { versions, findings }, named)
}

fn integrities(upstream: &str, name: &PackageName, body: &[u8]) -> BTreeMap<Key, Integrity> {
    let Ok(document) = RawObject::parse(body) else { return BTreeMap::new() };
    let Some(versions) = document.object("versions") else { return BTreeMap::new() };
    let expected = versions.iter().filter_map(|(number, raw)| {
        let version: Version = number.parse().ok()?;
        let object = RawObject::from_raw(raw)?;
        let dist = object.object("dist")?;
        let integrity = dist.text("integrity").and_then(|text| Integrity::parse(&text));
        let integrity = integrity.or_else(|| Integrity::from_shasum(&dist.text("shasum")?))?;
        Some((keys::cached_tarball(upstream, name, &version), integrity))
    });
    expected.collect()
}

/// What came of reading an object as JSON.
enum Parsed<T> {
    Gone,
    Damaged,
    Value(T),
}

/// The hash in a token's key.
fn token_hash(key: &Key) -> Option<&str> {
    let (_, file) = key.as_str().rsplit_once('/')?;
    let hash = file.strip_suffix(".json")?;
    (keys::token(hash) == *key && hash.len() == 64).then_some(hash)
}

/// An object that cannot be read is a finding; a store from which nothing can be read is away.
fn or_unreadable(
    outcome: Result<Vec<Finding>, storage::Error>,
    key: &Key,
    failures: &mut u32,
) -> Result<Vec<Finding>, storage::Error> {
    match outcome {
        Ok(findings) => {
            *failures = 0;
            Ok(findings)
        }
        Err(storage::Error::Unavailable(_) | storage::Error::Denied(_)) if *failures + 1 < FAILURES_IN_A_ROW => {
            *failures += 1;
            Ok(vec![Finding::new(Code::Unreadable, key)])
        }
        Err(error) => Err(error),
    }
}

/// Whether a removal left nothing.
fn removed(outcome: Result<(), storage::Error>) -> Result<bool, storage::Error> {
    match outcome {
        Ok(()) | Err(storage::Error::NotFound) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a change was made; false for one that was refused.
fn written<E>(outcome: Result<(), UpdateError<E>>) -> Result<bool, storage::Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(UpdateError::Refused(_)) => Ok(false),
        Err(UpdateError::Store(error)) => Err(error),
    }
}
