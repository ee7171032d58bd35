//! Reading a packument: from which source, and as which bytes.
//!
//! Bytes are made once per revision, form, coding and public URL, and kept in a cache bounded in bytes. A hit parses
//! no JSON and compresses nothing. What a client has is compared before anything is rendered.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::{Equivalent, Weighter};

use super::screening::{Judged, withheld_error};
use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::integrity::sha256_hex;
use crate::npm::packument::Head;
use crate::npm::{Form, PackageName, Timestamp, render};
use crate::upstream::Upstream;

/// Part of every ETag: raise it when the same document is rendered to other bytes than before.
const RENDERER: u32 = 1;

/// How a document's bytes are coded for transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As they are.
    Identity,
    /// For every client.
    Gzip,
    /// For yarn berry and bun.
    Brotli,
    /// For pnpm 12 and bun: smaller than gzip and quicker to make.
    Zstd,
}

/// A packument that was found, not yet rendered.
#[derive(Debug, Clone)]
pub struct Packument {
    /// The package.
    pub name: PackageName,
    /// The form that will be rendered.
    pub form: Form,
    /// The last change.
    pub modified: Option<Timestamp>,
    /// An upstream's document that could not be revalidated now.
    pub is_stale: bool,
    /// What the policy says of it, where it has anything to say.
    pub(super) judged: Option<Arc<Judged>>,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Hosted(Arc<Head>),
    Upstream { upstream: Upstream, kept_form: Form, revision: String },
}

/// A packument as bytes for a client.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// In the form and coding that were asked for.
    pub bytes: Bytes,
    /// As [`Packument::etag`].
    pub etag: Bytes,
}

/// What rendered bytes are kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RenderKey {
    name: PackageName,
    revision: String,
    /// The fingerprint of what is offered.
    selection: String,
    base: Arc<str>,
    form: Form,
    encoding: Encoding,
}

/// The same, borrowed: to look something up must cost no copies. The members stand in the same order, or their hashes would
/// differ.
#[derive(Debug, Clone, Copy, Hash)]
struct RenderKeyRef<'a> {
    name: &'a PackageName,
    revision: &'a str,
    selection: &'a str,
    base: &'a str,
    form: Form,
    encoding: Encoding,
}

impl Equivalent<RenderKey> for RenderKeyRef<'_> {
    fn equivalent(&self, key: &RenderKey) -> bool {
        *self.name == key.name
            && *self.revision == *key.revision
            && *self.selection == *key.selection
            && *self.base == *key.base
            && self.form == key.form
            && self.encoding == key.encoding
    }
}

/// Counts the bytes and a flat sum for the entry itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenderWeighter;

impl Weighter<RenderKey, Rendered> for RenderWeighter {
    fn weight(&self, key: &RenderKey, rendered: &Rendered) -> u64 {
        (rendered.bytes.len() + key.base.len() + 320) as u64
    }
}

impl Packument {
    /// A strong validator over the document, the form and the public URL, in quotes as it stands in `ETag`. It is the same for
    /// every coding, so that a cache that changes the coding keeps it.
    pub fn etag(&self, base: &str) -> Bytes {
        let form = match self.form {
            Form::Full => "full",
            Form::Abbreviated => "abbreviated",
        };
        let mut text = format!("{RENDERER}\n{}\n{form}\n{base}\n{}", self.name, self.revision());
        if !self.selection().is_empty() {
            text.push_str("\nwithout ");
            text.push_str(self.selection());
        }
        format!("\"{}\"", &sha256_hex(text.as_bytes())[..32]).into()
    }

    fn revision(&self) -> &str {
        match &self.origin {
            Origin::Hosted(head) => &head.revision,
            Origin::Upstream { revision, .. } => revision,
        }
    }

    /// The fingerprint of what is offered; empty where all is.
    fn selection(&self) -> &str {
        self.judged.as_ref().map_or("", |judged| &judged.fingerprint)
    }

    fn key<'a>(&'a self, base: &'a str, encoding: Encoding) -> RenderKeyRef<'a> {
        RenderKeyRef {
            name: &self.name,
            revision: self.revision(),
            selection: self.selection(),
            base,
            form: self.form,
            encoding,
        }
    }

    /// One line for who is steered to another version than the package's owner tags as `latest`.
    pub fn notice(&self) -> Option<&str> {
        self.judged.as_ref()?.notice.as_deref()
    }

    /// With what the policy says of it. A document that changes with the clock has no date of its last change.
    ///
    /// # Errors
    /// [`Error::Withheld`] when nothing is left: an empty document would be misread.
    fn judged(mut self, judged: Option<Arc<Judged>>) -> Result<Self, Error> {
        if let Some(judged) = &judged {
            let judgement = &judged.judgement;
            if judgement.offered == 0
                && let Some(withheld) = judgement.most_telling()
            {
                return Err(withheld_error(&self.name, None, withheld));
            }
            if !judgement.withheld.is_empty() {
                self.modified = None;
            }
        }
        self.judged = judged;
        Ok(self)
    }
}

impl Registry {
    /// A packument, from here or from an upstream.
    pub async fn packument(&self, caller: &Caller, name: &PackageName, form: Form) -> Result<Packument, Error> {
        let found = self.find_packument(caller, name, form).await;
        found.inspect_err(|error| self.note_withheld(caller, error))
    }

    /// As [`Registry::packument`], for who is told of a package without asking for it to have it.
    pub(super) async fn find_packument(
        &self,
        caller: &Caller,
        name: &PackageName,
        form: Form,
    ) -> Result<Packument, Error> {
        if let Some(head) = self.hosted_head(name).await? {
            self.authorize(caller, Action::Read, name, &head.owners)?;
            if !head.exists {
                return Err(Error::PackageNotFound(name.clone()));
            }
            let judged = self.judged_hosted(name, &head.revision).await?;
            let found = Packument {
                name: name.clone(),
                form,
                modified: head.modified,
                is_stale: false,
                judged: None,
                origin: Origin::Hosted(head),
            };
            return found.judged(judged);
        }
        self.authorize(caller, Action::Read, name, &[])?;
        let Route::Upstream(upstream) = self.terms.sources.route(name) else {
            return Err(Error::PackageNotFound(name.clone()));
        };
        let found = Box::pin(self.datable_document(upstream, name, form)).await?;
        let judged = Box::pin(self.judged_upstream(upstream, name, &found)).await?;
        let (kept_form, revision) = (found.document.form, found.document.revision.clone());
        let found = Packument {
            name: name.clone(),
            form,
            modified: found.document.modified,
            is_stale: found.is_stale,
            judged: None,
            origin: Origin::Upstream { upstream: upstream.clone(), kept_form, revision },
        };
        found.judged(judged)
    }

    /// The bytes of a packument for a client, if they are in memory. `base` is the public URL without trailing slash.
    pub fn rendered(&self, packument: &Packument, base: &str, encoding: Encoding) -> Option<Rendered> {
        let found = self.inner.rendered.get(&packument.key(base, encoding));
        self.inner.rendered_reads.read(found.is_some());
        found
    }

    /// Makes the bytes of a packument for a client, once for all who want them now, and keeps them in memory.
    pub async fn render(&self, packument: &Packument, base: &str, encoding: Encoding) -> Result<Rendered, Error> {
        let key = RenderKey {
            name: packument.name.clone(),
            revision: packument.revision().to_owned(),
            selection: packument.selection().to_owned(),
            base: base.into(),
            form: packument.form,
            encoding,
        };
        self.inner
            .rendered
            .get_or_insert_async(&key, async {
                if encoding == Encoding::Identity {
                    let bytes = self.render_identity(packument, base).await?;
                    return Ok(Rendered { bytes, etag: packument.etag(base) });
                }
                let identity = Box::pin(self.render(packument, base, Encoding::Identity)).await?;
                let (bytes, etag) = (identity.bytes, identity.etag);
                let bytes = self.off_thread(bytes.len(), move || compress(&bytes, encoding)).await?;
                Ok(Rendered { bytes, etag })
            })
            .await
    }

    async fn render_identity(&self, packument: &Packument, base: &str) -> Result<Bytes, Error> {
        let bytes = match &packument.origin {
            Origin::Hosted(_) => self.hosted_document(&packument.name).await?,
            // The bytes are cached under this revision, and an upstream's revision, being a hash, may come back.
            Origin::Upstream { upstream, kept_form, revision } => {
                self.proxied_revision(upstream, &packument.name, *kept_form, revision).await?
            }
        };
        let (packument, base) = (packument.clone(), base.to_owned());
        self.off_thread(bytes.len(), move || {
            let links = render::Links { base: &base, name: &packument.name };
            let judgement = packument.judged.as_ref().map(|judged| &judged.judgement);
            let render = match packument.origin {
                Origin::Hosted(_) => render::hosted_packument,
                Origin::Upstream { .. } => render::packument,
            };
            let rendered = match judgement.filter(|judgement| !judgement.withheld.is_empty()) {
                None => render(&bytes, packument.form, links, None),
                Some(judgement) => {
                    let selection = render::Selection {
                        leaves_out: &|number| judgement.withheld.contains_key(number),
                        tags: &judgement.tags,
                        newest: judgement.newest_offered,
                        restrictions: &judgement.restrictions(&packument.name),
                    };
                    render(&bytes, packument.form, links, Some(&selection))
                }
            };
            rendered.map(Bytes::from).map_err(|_| Error::Damaged)
        })
        .await
    }

    /// The stored or kept document itself, as it is now.
    pub(super) async fn document_bytes(&self, packument: &Packument) -> Result<Bytes, Error> {
        match &packument.origin {
            Origin::Hosted(_) => self.hosted_document(&packument.name).await,
            Origin::Upstream { upstream, kept_form, .. } => {
                self.proxied_bytes(upstream, &packument.name, *kept_form).await
            }
        }
    }
}

/// gzip 6 and zstd 3 are where more effort stops paying on packuments; brotli 4 costs twice gzip for a tenth fewer
/// bytes, and only two clients ask for it.
fn compress(bytes: &Bytes, encoding: Encoding) -> Result<Bytes, Error> {
    let failed = |_| Error::Interrupted;
    let output = match encoding {
        Encoding::Identity => return Ok(bytes.clone()),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(failed)?
        }
        Encoding::Zstd => zstd::bulk::compress(bytes, 3).map_err(failed)?,
        Encoding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, 4, 22);
            encoder.write_all(bytes).map_err(failed)?;
            encoder.into_inner()
        }
    };
    Ok(output.into())
}
