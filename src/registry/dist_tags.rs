//! Dist-tags: listing, setting, removing.

use std::collections::BTreeMap;

use super::recorded::TagChange;
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
        self.change_tags(caller, name, move |document| {
            document.set_tag(&tag, &version)?;
            Ok(vec![(tag.to_string(), Some(version.to_string()))])
        })
        .await
    }

    /// Removes a tag, also one that could not be set today; one that is not there is removed already.
    pub async fn remove_dist_tag(&self, caller: &Caller, name: &PackageName, tag: String) -> Result<(), Error> {
        self.change_tags(caller, name, move |document| {
            document.remove_tag(&tag)?;
            Ok(vec![(tag, None)])
        })
        .await
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
            let mut changes: Vec<TagChange> = Vec::new();
            for (tag, version) in &tags {
                document.set_tag(tag, version)?;
                changes.push((tag.to_string(), Some(version.to_string())));
            }
            if replace {
                let kept = |tag: &str| tag == "latest" || tags.iter().any(|(named, _)| named.as_str() == tag);
                let gone: Vec<String> = document.dist_tags().keys().filter(|tag| !kept(tag)).cloned().collect();
                for tag in gone {
                    document.remove_tag(&tag)?;
                    changes.push((tag, None));
                }
            }
            Ok(changes)
        })
        .await
    }

    /// `change` tells what it has done.
    async fn change_tags(
        &self,
        caller: &Caller,
        name: &PackageName,
        change: impl FnOnce(&mut HostedPackument<'_>) -> Result<Vec<TagChange>, EditError> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Tag, name, &head.owners)?;
        self.confirmed(caller, Action::Tag, name).await?;
        let (this, caller, name) = (self.clone(), caller.clone(), name.clone());
        self.to_the_end(async move {
            let (authority, package, by) = (this.clone(), name.clone(), caller.clone());
            let changes = this
                .change_existing(&name, move |document| {
                    authority.authorize(&by, Action::Tag, &package, &document.head().owners)?;
                    Ok(change(document)?)
                })
                .await?;
            this.write_all_down(this.tag_events(&caller, &name, changes)).await
        })
        .await
    }
}
