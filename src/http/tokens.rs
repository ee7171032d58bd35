//! `/-/npm/v1/tokens`: `npm token list`, `create` and `revoke`.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, BAD_REQUEST, TOKEN_NOT_FOUND};
use super::extract::{Bounded, From, Person, TokenKey, json as parse};
use super::respond;
use crate::app::App;
use crate::auth::{TokenRecord, TokenWish};
use crate::npm::Pattern;

const MAX_BODY_BYTES: usize = 64 * 1024;
/// A hundred years: whoever wants more wants a token that does not end.
const MAX_DAYS: u64 = 36_500;

/// The forms of npm until 11.5 and of pnpm (`readonly`), and of npm since 11.6.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    password: String,
    readonly: Option<bool>,
    #[serde(default, alias = "cidr")]
    cidr_whitelist: Option<Vec<String>>,
    name: Option<String>,
    #[serde(alias = "token_description")]
    description: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    packages_all: bool,
    #[serde(default)]
    scopes: Vec<String>,
    packages_and_scopes_permission: Option<String>,
    expires: Option<u64>,
    #[serde(default)]
    bypass_2fa: bool,
}

/// The caller's own tokens; no secret is among them.
pub(super) async fn list(State(app): State<App>, Person(user): Person) -> Result<Response, ApiError> {
    let tokens = app.registry.auth().tokens_of(&user.name).await?;
    let objects: Vec<Value> = tokens.iter().map(|token| shown(&token.hash, &token.record)).collect();
    let answer = json!({ "objects": objects, "total": objects.len(), "urls": {} });
    Ok(respond::json(StatusCode::OK, &answer))
}

/// Makes a token. It is in this answer and nowhere else.
pub(super) async fn create(
    State(app): State<App>,
    From(origin): From,
    Person(user): Person,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let mut wanted: Wanted = parse(&body)?;
    let password = std::mem::take(&mut wanted.password);
    let wish = wish(wanted)?;
    app.registry.may_manage_tokens(&user)?;
    app.registry.prove_identity(&user, password, "Create a token", origin.address).await?;
    let (token, record) = app.registry.auth().create_token(&user, wish).await?;
    let mut answer = shown(token.hash().as_str(), &record);
    answer["token"] = token.reveal().into();
    Ok(respond::json(StatusCode::CREATED, &answer))
}

/// Revokes a token of the caller's own, by its key, the start of it, or itself.
pub(super) async fn revoke(
    State(app): State<App>,
    Person(user): Person,
    TokenKey(key): TokenKey,
) -> Result<Response, ApiError> {
    app.registry.may_manage_tokens(&user)?;
    if app.registry.auth().revoke_own(&user, &key).await? {
        Ok(respond::done(StatusCode::OK))
    } else {
        Err(ApiError::new(&TOKEN_NOT_FOUND))
    }
}

fn wish(wanted: Wanted) -> Result<TokenWish, ApiError> {
    let bad = |why: String| ApiError::saying(&BAD_REQUEST, why);
    let mut packages = Vec::new();
    for text in &wanted.packages {
        packages.push(text.parse::<Pattern>().map_err(|error| bad(format!("`packages`: {error}.")))?);
    }
    for text in &wanted.scopes {
        let scope = format!("@{}/*", text.trim_start_matches('@').trim_end_matches("/*"));
        packages.push(scope.parse::<Pattern>().map_err(|error| bad(format!("`scopes`: {error}.")))?);
    }
    // A granular token that says nothing of writing does not write.
    let is_granular = wanted.readonly.is_none() && wanted.name.is_some();
    let (read_only, is_shut) = match wanted.packages_and_scopes_permission.as_deref() {
        None => (wanted.readonly.unwrap_or(is_granular), false),
        Some("read-only") => (true, false),
        Some("read-write") => (wanted.readonly.unwrap_or(false), false),
        Some("no-access") => (true, true),
        Some("read-write-stage-only") => {
            return Err(bad(
                "This registry has no staged publishing: make the token `read-only` or `read-write`.".to_owned()
            ));
        }
        Some(other) => return Err(bad(format!("`{}` is no permission that a token can have.", other.escape_debug()))),
    };
    let packages = match (is_shut, packages.is_empty() || wanted.packages_all) {
        (true, _) => Some(Vec::new()),
        (false, true) => None,
        (false, false) => Some(packages),
    };
    let network = |text: &String| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| bad(format!("`{}` is not a network such as `192.0.2.0/24`.", text.escape_debug())))
    };
    let lasts = match wanted.expires {
        None | Some(0) => None,
        Some(days) if days <= MAX_DAYS => Some(Duration::from_hours(24 * days)),
        Some(_) => return Err(bad("`expires` is a number of days, 36,500 at most.".to_owned())),
    };
    Ok(TokenWish {
        name: wanted.name.unwrap_or_default(),
        description: wanted.description.unwrap_or_default(),
        read_only,
        packages,
        cidr: wanted.cidr_whitelist.unwrap_or_default().iter().map(network).collect::<Result<_, _>>()?,
        lasts,
        bypasses_second_factor: wanted.bypass_2fa,
    })
}

/// A token as npm shows it, in the members of both generations.
fn shown(hash: &str, record: &TokenRecord) -> Value {
    let action = if record.read_only { "read" } else { "write" };
    let scopes: Vec<Value> = record
        .packages
        .iter()
        .flatten()
        .map(|pattern| json!({ "type": if pattern.ends_with("/*") { "scope" } else { "package" }, "name": pattern }))
        .collect();
    let cidr = (!record.cidr.is_empty()).then(|| record.cidr.iter().map(ToString::to_string).collect::<Vec<_>>());
    json!({
        "token": record.hint,
        "key": hash,
        "id": &hash[..hash.len().min(12)],
        "name": record.name,
        "description": record.description,
        "created": record.created,
        "updated": record.created,
        "expires": record.expires,
        "expiry": record.expires,
        "readonly": record.read_only,
        "automation": record.bypasses_second_factor,
        "bypass_2fa": record.bypasses_second_factor,
        "cidr_whitelist": cidr,
        "permissions": [{ "name": "package", "action": action }],
        "scopes": scopes,
        "origin": record.origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish_of(body: &Value) -> Result<TokenWish, ApiError> {
        wish(serde_json::from_value(body.clone()).unwrap())
    }

    #[test]
    fn both_generations_of_npm_are_understood() {
        let old = wish_of(&json!({ "password": "x", "readonly": false, "cidr_whitelist": ["192.0.2.0/24"] })).unwrap();
        assert!(!old.read_only && old.packages.is_none());
        assert_eq!(old.cidr.len(), 1);
        let new = wish_of(&json!({
            "name": "ci", "password": "x", "packages": ["left"], "scopes": ["@acme", "other"], "expires": 7,
            "packages_and_scopes_permission": "read-write", "bypass_2fa": true,
        }))
        .unwrap();
        let packages: Vec<String> = new.packages.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(packages, ["left", "@acme/*", "@other/*"]);
        assert!(!new.read_only && new.bypasses_second_factor);
        assert_eq!(new.lasts, Some(Duration::from_hours(7 * 24)));
        // Nothing is written with what nobody said may write.
        assert!(wish_of(&json!({ "name": "ci" })).unwrap().read_only);
        let shut = wish_of(&json!({ "name": "ci", "packages_and_scopes_permission": "no-access" })).unwrap();
        assert_eq!(shut.packages, Some(Vec::new()));
        for bad in [
            json!({ "cidr_whitelist": ["everywhere"] }),
            json!({ "name": "x", "packages": ["lod*"] }),
            json!({ "name": "x", "scopes": ["a/b"] }),
            json!({ "name": "x", "expires": 1_000_000 }),
            json!({ "name": "x", "packages_and_scopes_permission": "read-write-stage-only" }),
            json!({ "name": "x", "packages_and_scopes_permission": "all" }),
        ] {
            assert!(wish_of(&bad).is_err(), "{bad}");
        }
    }
}
