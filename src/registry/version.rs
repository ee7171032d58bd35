//! One version of a package, named by number, tag or range.

use bytes::Bytes;

use super::screening::require_offered;
use super::{Error, Registry};
use crate::auth::Caller;
use crate::npm::{Form, PackageName, Range, RawObject, Version, render};

impl Registry {
    /// A version's object as JSON. `wanted` is a version, a tag or a range; of a range the version tagged `latest`
    /// where it fits, as npm picks, else the highest that fits.
    pub async fn version(&self, caller: &Caller, name: &PackageName, wanted: &str, base: &str) -> Result<Bytes, Error> {
        let found = self.find_version(caller, name, wanted, base).await;
        found.inspect_err(|error| self.note_withheld(caller, error))
    }

    async fn find_version(
        &self,
        caller: &Caller,
        name: &PackageName,
        wanted: &str,
        base: &str,
    ) -> Result<Bytes, Error> {
        let packument = self.find_packument(caller, name, Form::Full).await?;
        let document = self.document_bytes(&packument).await?;
        let (name, wanted, base) = (name.clone(), wanted.to_owned(), base.to_owned());
        let judged = packument.judged.clone();
        self.off_thread(document.len(), move || {
            let document = RawObject::parse(&document).map_err(|_| Error::Damaged)?;
            let (mut tags, mut versions) =
                (document.object("dist-tags").unwrap_or_default(), document.object("versions").unwrap_or_default());
            let missing = || Error::VersionNotFound { name: name.clone(), wanted: wanted.clone() };
            let meant = resolve(&tags, &versions, &wanted);
            if let Some(judged) = &judged {
                let judgement = &judged.judgement;
                versions.retain(|number, _| !judgement.withheld.contains_key(number));
                tags = RawObject::default();
                judgement.tags.iter().for_each(|(tag, number)| tags.put_text(tag, number));
            }
            let offered = resolve(&tags, &versions, &wanted).filter(|number| versions.get(number).is_some());
            let number = match (offered, &meant) {
                (Some(number), _) => number,
                (None, Some(meant)) => {
                    require_offered(judged.as_ref(), &name, meant)?;
                    return Err(missing());
                }
                (None, None) => return Err(missing()),
            };
            let raw = versions.get(&number).ok_or_else(missing)?;
            let links = render::Links { base: &base, name: &name };
            render::version(&number, raw, links).map(Bytes::from).map_err(|_| Error::Damaged)
        })
        .await
    }
}

fn resolve(tags: &RawObject<'_>, versions: &RawObject<'_>, wanted: &str) -> Option<String> {
    if versions.get(wanted).is_some() {
        return Some(wanted.to_owned());
    }
    if let Ok(version) = wanted.parse::<Version>() {
        return Some(version.to_string());
    }
    if let Some(tagged) = tags.text(wanted) {
        return Some(tagged);
    }
    let range: Range = wanted.parse().ok()?;
    let fits = |number: &str| number.parse::<Version>().ok().filter(|version| range.contains(version));
    if let Some(latest) = tags.text("latest")
        && fits(&latest).is_some()
    {
        return Some(latest);
    }
    versions.keys().filter_map(fits).max().map(|version| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tags_and_ranges_are_resolved_as_npm_does() {
        let tags = RawObject::parse(br#"{"latest":"1.1.0","next":"2.0.0-rc.1"}"#).unwrap();
        let versions = RawObject::parse(br#"{"1.0.0":{},"1.1.0":{},"1.2.0":{},"2.0.0-rc.1":{}}"#).unwrap();
        for (wanted, expected) in [
            ("1.0.0", Some("1.0.0")),
            ("v1.0.0", Some("1.0.0")),
            ("latest", Some("1.1.0")),
            ("next", Some("2.0.0-rc.1")),
            ("^1.0.0", Some("1.1.0")),
            (">1.1.0", Some("1.2.0")),
            ("^3", None),
            ("nightly", None),
        ] {
            assert_eq!(resolve(&tags, &versions, wanted).as_deref(), expected, "{wanted}");
        }
    }
}
