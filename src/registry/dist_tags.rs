//! Dist-tags: listing, setting, removing.

use std::collections::BTreeMap;

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::packument::{EditError, HostedPackument};
use crate::npm::{DistTag, Form, PackageName, RawObject, Version};

impl Registry {
    /// All tags of a package, ours or an upstream's.
    pub async fn dist_tags(&self, caller: &Caller, name: &PackageName) -> Result<BTreeMap<String, String>, Error> {
        let packument = self.packument(caller, name, Form::Abbreviated).await?;
        if let Some(judged) = &packument.judged {
            return Ok(judged.judgement.tags.clone());
        }
        let document = self.document_bytes(&packument).await?;
        self.off_thread(document.len(), move || {
            let document = RawObject::parse(&document).map_err(|_| Error::Damaged)?;
            let Some(raw) = document.get("dist-tags") else { return Ok(BTreeMap::new()) };
            serde_json::from_str(raw.get()).map_err(|_| Error::Damaged)
        })
        .await
    }

    /// Points a tag at a version.
    pub async fn set_dist_tag(
        &self,
        caller: &Caller,
        name: &PackageName,
        tag: DistTag,
        version: Version,
    ) -> Result<(), Error> {
        self.change_tags(caller, name, move |document| document.set_tag(&tag, &version)).await
    }

    /// Removes a tag, also one that could not be set today; one that is not there is removed already.
    pub async fn remove_dist_tag(&self, caller: &Caller, name: &PackageName, tag: String) -> Result<(), Error> {
        self.change_tags(caller, name, move |document| document.remove_tag(&tag)).await
    }

    /// Sets several tags at once; with `replace`, tags that are not named go, `latest` excepted.
    pub async fn set_dist_tags(
        &self,
        caller: &Caller,
        name: &PackageName,
        tags: Vec<(DistTag, Version)>,
        replace: bool,
    ) -> Result<(), Error> {
        self.change_tags(caller, name, move |document| {
            for (tag, version) in &tags {
                document.set_tag(tag, version)?;
            }
            if replace {
                let kept = |tag: &str| tag == "latest" || tags.iter().any(|(named, _)| named.as_str() == tag);
                let gone: Vec<String> = document.dist_tags().keys().filter(|tag| !kept(tag)).cloned().collect();
                for tag in &gone {
                    document.remove_tag(tag)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn change_tags(
        &self,
        caller: &Caller,
        name: &PackageName,
        change: impl FnOnce(&mut HostedPackument<'_>) -> Result<(), EditError> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Tag, name, &head.owners)?;
        self.confirmed(caller, Action::Tag, name).await?;
        let (this, caller, name) = (self.clone(), caller.clone(), name.clone());
        self.to_the_end(async move {
            let (authority, package) = (this.clone(), name.clone());
            this.change_existing(&name, move |document| {
                authority.authorize(&caller, Action::Tag, &package, &document.head().owners)?;
                Ok(change(document)?)
            })
            .await
        })
        .await
    }
}
