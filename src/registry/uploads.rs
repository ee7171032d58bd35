//! Tarballs that go to the bucket and not through this process: what a publish request cannot carry on AWS Lambda.
//!
//! Whoever may publish gets a link to write one object with. Nothing trusts that object: at the commit it is read once,
//! hashed and staged, and from then on it is a publish as any other. What is sent by the link afterwards changes nothing.

use std::time::Duration;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Error, Registry};
use crate::auth::Caller;
use crate::keys;
use crate::npm::integrity::Hasher;
use crate::npm::publish_body::BodyError;
use crate::npm::{Digests, PackageName, Timestamp, Version};
use crate::random;
use crate::storage::{self, Upload, WritingLink};

/// How long a link is good for an upload to begin.
const LINK_LASTS: Duration = Duration::from_mins(15);
/// How long what was uploaded can be committed: a large tarball may be on its way for long.
const UPLOAD_LASTS: Duration = Duration::from_hours(6);

/// Where a tarball is to be sent, and what the commit calls it.
#[derive(Debug, Clone)]
pub struct UploadPlace {
    /// For the commit.
    pub id: String,
    /// Where to `PUT` the bytes, without credentials.
    pub url: Url,
    /// Headers to send along.
    pub headers: &'static [(&'static str, &'static str)],
    /// Until when the link is good.
    pub expires: Timestamp,
}

/// Whose upload it is. Kept where an end is looked after.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    expires: String,
    /// The account's name, or the CI job's.
    caller: String,
    package: String,
}

impl Registry {
    /// Gives out a link to send a version's tarball by, to whom a publish of that version would be allowed.
    ///
    /// # Errors
    /// As for a publish, as far as it can be told without the tarball; [`Error::NoUploadLinks`] where clients are not sent
    /// to a bucket.
    pub async fn begin_upload(
        &self,
        caller: &Caller,
        name: &PackageName,
        number: &str,
        size_bytes: u64,
    ) -> Result<UploadPlace, Error> {
        let author = self.authorize_changing(caller, name)?;
        let version: Version = number.parse().map_err(|_| Error::BadVersion(number.to_owned()))?;
        self.check_may_publish(caller, name, &version, Vec::new()).await?;
        if size_bytes > self.terms.limits.body.max_tarball_bytes {
            return Err(BodyError::TarballTooLarge.into());
        }
        // A bucket that clients get nothing from is one that they may not even reach.
        if !self.redirects() {
            return Err(Error::NoUploadLinks);
        }
        let id = random::id();
        let link = self.inner.store.writing_link(&keys::uploaded(&id), LINK_LASTS).await?;
        let WritingLink { url, headers } = link.ok_or(Error::NoUploadLinks)?;
        let now = self.inner.clock.now();
        let record = Record {
            expires: now.plus(UPLOAD_LASTS).to_string(),
            caller: author.name,
            package: name.as_str().to_owned(),
        };
        let record = serde_json::to_vec(&record).map_err(|_| Error::Damaged)?;
        self.inner.store.create(&keys::upload(&id), record.into()).await?;
        Ok(UploadPlace { id, url, headers, expires: now.plus(LINK_LASTS) })
    }

    /// Refuses an upload that somebody else began, or for another package, or that has ended.
    pub(super) async fn require_upload(&self, caller: &Caller, name: &PackageName, id: &str) -> Result<(), Error> {
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::UploadNotFound);
        }
        let record = self.inner.store.read(&keys::upload(id)).await.map_err(not_found)?;
        let record: Record = serde_json::from_slice(&record).map_err(|_| Error::Damaged)?;
        let now = self.inner.clock.now().as_millis();
        let is_good = record.expires.parse::<Timestamp>().is_ok_and(|ends| now < ends.as_millis());
        let is_theirs = caller.name().is_some_and(|name| name == record.caller) && record.package == name.as_str();
        if is_good && is_theirs { Ok(()) } else { Err(Error::UploadNotFound) }
    }

    /// What came by the link, staged and hashed.
    pub(super) async fn take_upload(&self, id: &str) -> Result<(Upload, Digests), Error> {
        let sent = self.inner.store.open_object(&keys::uploaded(id)).await.map_err(not_found)?;
        // Looked at before anything is read: a link does not limit what is sent by it.
        if sent.size_bytes() > self.terms.limits.body.max_tarball_bytes {
            return Err(BodyError::TarballTooLarge.into());
        }
        let mut upload = self.inner.store.upload().await?;
        let (mut pieces, mut hasher) = (Box::pin(sent.stream_all()), Hasher::default());
        while let Some(bytes) = pieces.try_next().await.map_err(not_found)? {
            hasher.update(&bytes);
            upload.write(bytes).await?;
        }
        Ok((upload, hasher.finish()))
    }

    /// Removes what is of no use after the commit. What stays has an end: the record by us, the object by the bucket's rule.
    pub(super) async fn discard_upload(&self, id: &str) {
        for key in [keys::uploaded(id), keys::upload(id)] {
            if let Err(error) = self.inner.store.delete(&key).await {
                tracing::debug!(storage.key = %key, cause = %error, "what was published is left to the bucket's rules");
            }
        }
    }
}

fn not_found(error: storage::Error) -> Error {
    match error {
        storage::Error::NotFound => Error::UploadNotFound,
        error => error.into(),
    }
}
