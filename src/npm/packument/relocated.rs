//! A stored document whose tarballs have other addresses, for those who serve stored documents by other means. This registry
//! makes addresses when it is read and trusts none that are stored.

use super::{EditError, HostedPackument};
use crate::npm::render::Links;
use crate::npm::{PackageName, RawObject};

/// A document with other addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocated {
    /// What is to be stored.
    pub bytes: Vec<u8>,
    /// How many addresses are others now.
    pub addresses: usize,
}

/// Puts the stored addresses of a document's tarballs below the registry at `base`, which has no slash at its end; all else
/// stays to the letter. `None` when nothing would change, and for copies of another registry's documents, whose tarballs are
/// there.
///
/// # Errors
/// [`EditError::Damaged`].
pub fn relocated(stored: &[u8], name: &PackageName, base: &str) -> Result<Option<Relocated>, EditError> {
    if HostedPackument::parse(stored)?.head().is_copy {
        return Ok(None);
    }
    let document = RawObject::parse(stored).map_err(|_| EditError::Damaged)?;
    let Some(versions) = document.input("versions").and_then(RawObject::from_raw) else { return Ok(None) };
    let links = Links { base, name };
    let (mut bytes, mut copied, mut addresses) = (Vec::with_capacity(stored.len()), 0, 0);
    for (number, version) in versions.into_inputs() {
        let dist = RawObject::from_raw(version).and_then(|version| version.input("dist"));
        let Some(address) = dist.and_then(RawObject::from_raw).and_then(|dist| dist.input("tarball")) else { continue };
        let wanted = serde_json::to_string(&links.tarball(&number)).map_err(|_| EditError::Damaged)?;
        // Raw values lie in the text that they were read from, in its order.
        let start = address.get().as_ptr().addr() - stored.as_ptr().addr();
        if address.get() != wanted && start >= copied {
            bytes.extend_from_slice(&stored[copied..start]);
            bytes.extend_from_slice(wanted.as_bytes());
            copied = start + address.get().len();
            addresses += 1;
        }
    }
    bytes.extend_from_slice(&stored[copied..]);
    Ok((addresses > 0).then_some(Relocated { bytes, addresses }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(text: &str) -> Option<Relocated> {
        relocated(text.as_bytes(), &"@acme/tool".parse().unwrap(), "https://npm.example/base").unwrap()
    }

    #[test]
    fn addresses_change_and_nothing_else() {
        let before = |one: &str, two: &str| {
            format!(
                "{{ \"name\":\"@acme/tool\", \"odd\" : 1.50,\n \"versions\": {{\"1.0.0\":{{\"x\":\"\\u00e4\",\"dist\":{{ \"tarball\" : {one},\"shasum\":\"a\"}}}},\
                 \"1.1\":{{\"dist\":{{\"tarball\":{two}}}}},\"2.0.0\":{{}},\"3.0.0\":{{\"dist\":7}}}},\"_attachments\":{{\"t\":{{\"data\":\"AA==\"}}}}}} "
            )
        };
        let wanted = |number: &str| format!("\"https://npm.example/base/@acme/tool/-/tool-{number}.tgz\"");
        let after = before(&wanted("1.0.0"), &wanted("1.1"));
        let found = moved(&before("\"undefined/@acme/tool/-/tool-1.0.0.tgz\"", "null")).unwrap();
        assert_eq!((String::from_utf8(found.bytes).unwrap(), found.addresses), (after.clone(), 2));
        assert_eq!(moved(&before("\"http://old/x\"", &wanted("1.1"))).unwrap().addresses, 1);
        assert_eq!(moved(&after), None);
    }

    #[test]
    fn copies_and_documents_without_addresses_stay() {
        assert_eq!(
            moved(
                r#"{"name":"@acme/tool","_rev":"1-x","time":{"created":"2026-01-01T00:00:00.000Z"},"versions":{"1.0.0":{"dist":{"tarball":"https://elsewhere/x"}}}}"#
            ),
            None
        );
        assert_eq!(moved(r#"{"name":"@acme/tool","versions":{"1.0.0":{"dist":{}}}}"#), None);
        assert_eq!(moved(r#"{"name":"@acme/tool"}"#), None);
        assert_eq!(relocated(b"{", &"tool".parse().unwrap(), "https://x"), Err(EditError::Damaged));
    }
}
