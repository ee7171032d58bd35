//! Packages from a registry somewhere, over HTTP.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::tarballs::Owners;
use super::{Obstacle, Offer, Origin, Tarball, parsed};
use crate::causes;
use crate::npm::packument::ForeignVersion;
use crate::npm::{Form, PackageName};
use crate::upstream::{self, PackumentAnswer, Upstream};

/// As many as registries give at once.
const PAGE: usize = 250;
/// Names that are taken from searches.
const MAX_NAMES: usize = 1_000_000;

/// A registry that packages are taken from.
#[derive(Debug)]
pub struct Remote {
    upstream: Upstream,
    owners: Owners,
}

#[derive(Deserialize)]
struct Page {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    package: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Remote {
    /// Asks nothing yet.
    pub fn new(upstream: Upstream, owners: Owners) -> Self {
        Self { upstream, owners }
    }

    /// The names of all packages that the registry's search tells, those that are no names of today left out.
    ///
    /// # Errors
    /// When the registry has no search, or it fails.
    pub async fn names(&self) -> Result<BTreeSet<PackageName>, upstream::Error> {
        let mut names = BTreeSet::new();
        let mut from = 0;
        while names.len() < MAX_NAMES {
            let answer = self.upstream.search(&format!("text=&size={PAGE}&from={from}")).await?;
            let page: Page = serde_json::from_slice(&answer)
                .map_err(|_| upstream::Error::BadAnswer("the search result cannot be read"))?;
            let (before, found) = (names.len(), page.objects.len());
            names.extend(page.objects.iter().filter_map(|object| object.package.name.parse::<PackageName>().ok()));
            // A registry that knows no pages gives the first one again.
            if found == 0 || names.len() == before {
                break;
            }
            from += found;
        }
        Ok(names)
    }
}

fn told(error: &upstream::Error) -> Obstacle {
    match error {
        upstream::Error::NotFound => Obstacle::new("is not there"),
        other => Obstacle(causes::one_line(other)),
    }
}

impl Origin for Remote {
    const IS_NEAR: bool = false;

    async fn package(&self, name: &PackageName) -> Result<Option<Offer>, Obstacle> {
        let answer = self.upstream.packument(name, Form::Full, None).await.map_err(|error| told(&error))?;
        let PackumentAnswer::Found(fetched) = answer else { return Err(Obstacle::new("was not sent")) };
        let document = parsed(name, fetched.body).await?;
        let owners = self.owners.of(&document.maintainers);
        Ok(Some(Offer { document, owners, left_out: Vec::new() }))
    }

    async fn tarball(&self, name: &PackageName, version: &ForeignVersion) -> Result<Tarball, Obstacle> {
        let reference = version
            .tarball
            .as_deref()
            .ok_or_else(|| Obstacle::new("its document does not say where its tarball is"))?;
        let url = self.upstream.tarball_url(name, reference).map_err(|error| told(&error))?;
        let body = self.upstream.tarball(&url).await.map_err(|error| told(&error))?;
        Ok(Tarball { bytes: body.stream.map_err(|error| told(&error)).boxed(), written: None })
    }
}
