//! Removing a package, and the bytes of what was removed.

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::{PackageName, Version, render};
use crate::storage;

/// A removed version and the digest in its tarball's key, where there is one.
pub(super) type Removed = (String, Option<String>);

impl Registry {
    /// Removes a whole package. Its numbers stay used up, and its name stays ours.
    pub async fn unpublish(&self, caller: &Caller, name: &PackageName, revision: &str) -> Result<(), Error> {
        let user = self.authorize_changing(caller, name)?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Unpublish, name, &head.owners)?;
        self.confirmed(caller, Action::Unpublish, name).await?;
        let (this, caller, name, revision) = (self.clone(), caller.clone(), name.clone(), revision.to_owned());
        let now = self.inner.clock.now();
        self.to_the_end(async move {
            let (authority, package, by) = (this.clone(), name.clone(), caller.clone());
            let removed = this
                .change_existing(&name, move |document| {
                    authority.authorize(&by, Action::Unpublish, &package, &document.head().owners)?;
                    document.check_revision(Some(&revision))?;
                    let numbers: Vec<String> = document.version_numbers().map(ToOwned::to_owned).collect();
                    let removed = document.tarball_digests(&numbers);
                    document.unpublish_all(&user.name, now)?;
                    Ok(removed)
                })
                .await?;
            let recorded = this.write_down(this.package_removal_event(&caller, &name)).await;
            this.remove_tarballs(&name, &removed).await;
            recorded
        })
        .await
    }

    /// The last step of npm's way to remove one version: the file. By then the version is gone and so are its bytes;
    /// a version that is still there must be taken out of the document first.
    pub async fn remove_tarball(&self, caller: &Caller, name: &PackageName, file: &str) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let head = self.hosted_head(name).await?.ok_or_else(|| Error::PackageNotFound(name.clone()))?;
        self.authorize(caller, Action::Unpublish, name, &head.owners)?;
        let version: Version = render::version_in_file_name(name, file)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::TarballNotFound { name: name.clone(), file: file.to_owned() })?;
        let stored = self.hosted_document(name).await?;
        let is_there = self.off_thread(stored.len(), move || {
            Ok(HostedPackument::parse(&stored)?.version(&version.to_string()).is_some())
        });
        if is_there.await? {
            return Err(Error::Invalid("the version must be removed from the document before its file"));
        }
        Ok(())
    }

    /// Deletes the bytes of versions that no document names any more. A failure is logged and leaves an orphan, which
    /// does no harm.
    pub(super) async fn remove_tarballs(&self, name: &PackageName, removed: &[Removed]) {
        for (number, digest) in removed {
            let Ok(version) = number.parse::<Version>() else { continue };
            // An older system's files are never written, so not deleted either.
            let Some(digest) = digest else { continue };
            for key in [keys::tarball(name, &version, digest), keys::attestations(name, &version, digest)] {
                match self.inner.store.delete(&key).await {
                    Ok(()) | Err(storage::Error::NotFound) => {}
                    Err(error) => tracing::warn!(storage.key = %key, %error, "the bytes of a removed version remain"),
                }
            }
        }
    }
}
