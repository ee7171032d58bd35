//! Changes of a document without a tarball, as CouchDB would have taken them: deprecation, stars, owners, and the
//! removal of versions.
//!
//! A body is read as a wish to change a few things, never as a replacement: what a client has not touched, or read
//! long ago, must not undo what others did since.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::events::Event;
use crate::npm::packument::{EditError, HostedPackument, Maintainer};
use crate::npm::{DistTag, PackageName, RawObject, Version};

/// Members of a version that can never change once it is published. A body may repeat them, not alter them.
const IMMUTABLE: [&str; 7] =
    ["name", "version", "dependencies", "optionalDependencies", "peerDependencies", "scripts", "bin"];

/// What a body asks to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Changes {
    deprecations: Vec<(String, Option<String>)>,
    star: Option<bool>,
    owners: Option<Vec<Maintainer>>,
    removed: Vec<String>,
    /// No version is left then.
    removes_all: bool,
    tags: Vec<(DistTag, Version)>,
}

impl Registry {
    /// Applies a body without a tarball to a package. `revision` is the one in the path, where one was: only then
    /// does the body's silence on a version mean that it is to go.
    ///
    /// A revision that is not the current one is a conflict; so the literal `undefined`, which yarn classic sends with
    /// a list of owners that lacks all others.
    pub async fn change_metadata(
        &self,
        caller: &Caller,
        name: &PackageName,
        body: Bytes,
        revision: Option<String>,
    ) -> Result<(), Error> {
        let user = self.authorize_changing(caller, name)?;
        let wish = {
            let (body, user) = (body.clone(), user.name.clone());
            self.off_thread(body.len(), move || Wish::read(&body, &user)).await?
        };
        let head = self.require_hosted(name).await?;
        if let Some(action) = wish.likely_action(revision.is_some()) {
            // Who may change nothing is told so before anybody is asked to confirm.
            let changes = [Action::Deprecate, Action::Tag, Action::Unpublish, Action::Own];
            if changes.iter().all(|action| self.authorize(caller, *action, name, &head.owners).is_err()) {
                self.authorize(caller, action, name, &head.owners)?;
            }
            self.confirmed(caller, action, name).await?;
        }
        if let (Some(_), Some(owners)) = (&revision, &wish.owners) {
            self.check_new_owners(owners, &head.owners).await?;
        }
        let (this, caller, package) = (self.clone(), caller.clone(), name.clone());
        let now = self.inner.clock.now();
        let wants_star = wish.star;
        let (removed, star) = self
            .to_the_end(async move {
                if wants_star == Some(true) {
                    this.list_star(&user.name, &package).await?;
                }
                let (authority, package_in, by) = (this.clone(), package.clone(), caller.clone());
                let user_name = user.name.clone();
                let (digests, changes, owners) = this
                    .change_document(&package, move |current| {
                        let mut document = current
                            .filter(|document| document.head().exists)
                            .ok_or_else(|| Error::PackageNotFound(package_in.clone()))?;
                        document.check_revision(revision.as_deref().or(wish.revision.as_deref()))?;
                        let changes = Changes::between(&document, &body, wish, revision.is_some(), &user_name)?;
                        let owners = document.head().owners;
                        for action in changes.actions() {
                            authority.authorize(&by, action, &package_in, &owners)?;
                        }
                        if changes == Changes::default() {
                            return Ok((None, (Vec::new(), changes, owners)));
                        }
                        let digests = document.tarball_digests(&changes.removed);
                        changes.apply(&mut document, &user_name, now)?;
                        Ok((Some(document), (digests, changes, owners)))
                    })
                    .await?;
                let recorded = this.write_all_down(this.events_of(&caller, &package, &changes, &owners)).await;
                if wants_star == Some(false) {
                    this.unlist_star(&user.name, &package).await;
                }
                this.remove_tarballs(&package, &digests).await;
                recorded.map(|()| (digests.len(), changes.star))
            })
            .await?;
        tracing::debug!(package.name = %name, removed, starred = star, "metadata changed");
        Ok(())
    }

    /// What is recorded of changes; `owners` were the package's before.
    fn events_of(&self, caller: &Caller, name: &PackageName, changes: &Changes, owners: &[String]) -> Vec<Event> {
        let mut events = self.deprecation_events(caller, name, &changes.deprecations);
        if changes.removes_all {
            events.push(self.package_removal_event(caller, name));
        } else {
            events.extend(self.removal_events(caller, name, &changes.removed));
        }
        let tags = changes.tags.iter().map(|(tag, version)| (tag.to_string(), Some(version.to_string())));
        events.extend(self.tag_events(caller, name, tags.collect()));
        let names = |owners: &Vec<Maintainer>| owners.iter().map(|owner| owner.name.clone()).collect::<Vec<_>>();
        events.extend(changes.owners.iter().map(|now| self.owners_event(caller, name, owners, &names(now))));
        events.extend(changes.star.map(|starred| self.star_event(caller, name, starred)));
        events
    }

    /// Refuses owners without an account: whoever registered the name later would own the package.
    async fn check_new_owners(&self, owners: &[Maintainer], known: &[String]) -> Result<(), Error> {
        for owner in owners {
            if !known.contains(&owner.name) && self.terms.auth.account(&owner.name).await?.is_none() {
                return Err(Error::UserNotFound(owner.name.clone()));
            }
        }
        Ok(())
    }
}

impl Changes {
    /// What differs between what is stored and what the body shows, as far as it may be changed in this way.
    fn between(
        document: &HostedPackument<'_>,
        body: &[u8],
        wish: Wish,
        has_path_revision: bool,
        user: &str,
    ) -> Result<Self, Error> {
        let body = parse(body)?;
        let mut changes =
            Self { star: wish.star.filter(|wanted| *wanted != document.is_starred_by(user)), ..Self::default() };
        let Some(versions) = body.input("versions") else {
            // npm's and yarn's `owner` send the list of owners and nothing else.
            changes.owners = wish.owners.filter(|_| has_path_revision);
            return Ok(changes);
        };
        let versions = RawObject::from_raw(versions).ok_or(Error::Invalid("`versions` must be an object"))?;
        let stored: HashMap<&str, &RawValue> = document.versions().collect();
        for (number, proposed) in versions.iter() {
            let stored = stored.get(number).ok_or_else(|| EditError::NoSuchVersion(number.to_owned()))?;
            let stored: Map<String, Value> = serde_json::from_str(stored.get()).map_err(|_| Error::Damaged)?;
            let proposed: Map<String, Value> =
                serde_json::from_str(proposed.get()).map_err(|_| Error::Invalid("a version must be an object"))?;
            check_immutable(number, &stored, &proposed)?;
            let message = |version: &Map<String, Value>| {
                version.get("deprecated").and_then(Value::as_str).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
            };
            if message(&stored) != message(&proposed) {
                changes.deprecations.push((number.to_owned(), message(&proposed)));
            }
        }
        if has_path_revision {
            let kept: HashSet<&str> = versions.keys().collect();
            let removed = document.version_numbers().filter(|number| !kept.contains(number));
            changes.removed = removed.map(ToOwned::to_owned).collect();
            changes.removes_all = !changes.removed.is_empty() && kept.is_empty();
            changes.tags = changed_tags(document, &body, &changes.removed)?;
        }
        Ok(changes)
    }

    fn actions(&self) -> Vec<Action> {
        let wanted = [
            (!self.deprecations.is_empty(), Action::Deprecate),
            (!self.tags.is_empty(), Action::Tag),
            (!self.removed.is_empty(), Action::Unpublish),
            (self.owners.is_some(), Action::Own),
            (self.star.is_some(), Action::Star),
        ];
        wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, action)| action).collect()
    }

    fn apply(
        &self,
        document: &mut HostedPackument<'_>,
        user: &str,
        now: crate::npm::Timestamp,
    ) -> Result<(), EditError> {
        document.deprecate(&self.deprecations)?;
        if let Some(starred) = self.star {
            document.set_star(user, starred)?;
        }
        if let Some(owners) = &self.owners {
            document.set_maintainers(owners)?;
        }
        if !self.removed.is_empty() {
            document.unpublish(&self.removed, user, now)?;
        }
        self.tags.iter().try_for_each(|(tag, version)| document.set_tag(tag, version))
    }
}

/// The parts of a body that are looked at before the package is.
#[derive(Debug, Clone)]
struct Wish {
    revision: Option<String>,
    /// Whether the body shows the user's star; `None` when it says nothing of stars.
    star: Option<bool>,
    owners: Option<Vec<Maintainer>>,
    /// The body shows versions, so that it may change them.
    has_versions: bool,
}

impl Wish {
    /// What the body is most likely about, before it is compared with the package. A star needs nobody's word.
    fn likely_action(&self, has_path_revision: bool) -> Option<Action> {
        match (self.has_versions, has_path_revision, &self.owners) {
            (true, true, _) => Some(Action::Unpublish),
            (true, false, _) => Some(Action::Deprecate),
            (false, true, Some(_)) => Some(Action::Own),
            (false, ..) => None,
        }
    }

    fn read(body: &[u8], user: &str) -> Result<Self, Error> {
        let body = parse(body)?;
        let star = body.object("users").map(|users| users.get(user).is_some_and(|value| value.get() != "false"));
        // A whole document has owners too, as they were when it was read; they are no wish.
        let owners = body.input("maintainers").filter(|_| body.get("versions").is_none());
        let owners = owners.map(|raw| {
            serde_json::from_str(raw.get())
                .map_err(|_| Error::Invalid("`maintainers` must be a list of objects with a `name`"))
        });
        Ok(Self {
            revision: body.text("_rev"),
            star,
            owners: owners.transpose()?,
            has_versions: body.get("versions").is_some(),
        })
    }
}

fn parse(body: &[u8]) -> Result<RawObject<'_>, Error> {
    RawObject::parse(body).map_err(|_| Error::Invalid("the body is not a package document"))
}

fn check_immutable(number: &str, stored: &Map<String, Value>, proposed: &Map<String, Value>) -> Result<(), Error> {
    let differs = |a: Option<&Value>, b: Option<&Value>| matches!((a, b), (a, Some(b)) if a != Some(b));
    let immutable = |field| Error::Edit(EditError::Immutable { version: number.to_owned(), field });
    for field in IMMUTABLE {
        if differs(stored.get(field), proposed.get(field)) {
            return Err(immutable(field));
        }
    }
    let dist =
        |version: &Map<String, Value>, field: &str| version.get("dist").and_then(|dist| dist.get(field)).cloned();
    for (field, name) in [("integrity", "dist.integrity"), ("shasum", "dist.shasum")] {
        if differs(dist(stored, field).as_ref(), dist(proposed, field).as_ref()) {
            return Err(immutable(name));
        }
    }
    Ok(())
}

/// Tags that the client moved, which `npm unpublish` does with `latest`. Tags of removed versions go by themselves.
fn changed_tags(
    document: &HostedPackument<'_>,
    body: &RawObject<'_>,
    removed: &[String],
) -> Result<Vec<(DistTag, Version)>, Error> {
    let Some(tags) = body.get("dist-tags") else { return Ok(Vec::new()) };
    let tags: Map<String, Value> =
        serde_json::from_str(tags.get()).map_err(|_| Error::Invalid("`dist-tags` must be an object"))?;
    let mut changed = Vec::new();
    for (tag, target) in &tags {
        let number = target.as_str().ok_or(Error::Invalid("a tag must name a version"))?;
        if document.dist_tags().get(tag).map(String::as_str) == Some(number)
            || removed.iter().any(|gone| gone == number)
        {
            continue;
        }
        let version: Version = number.parse().map_err(|_| Error::BadVersion(number.to_owned()))?;
        changed.push((tag.parse()?, version));
    }
    Ok(changed)
}
