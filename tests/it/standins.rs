//! The issuer of identity tokens and the browser: that they do what the tests that use them take for granted.

use std::time::{Duration, Instant};

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::github::GitHub;
use crate::support::issuer::{
    Issuer, Mode, Seen, Signing, github_claims, gitlab_claims, parts_of, with_immutable_subject,
};

async fn fetch(url: &str) -> Result<Value, String> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(url).send().await.map_err(|error| error.to_string())?.text().await.unwrap();
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

async fn keys_of(issuer: &Issuer) -> Value {
    let discovery = fetch(&format!("{}/.well-known/openid-configuration", issuer.url())).await.unwrap();
    assert_eq!(discovery["issuer"], json!(issuer.url()));
    fetch(discovery["jwks_uri"].as_str().unwrap()).await.unwrap()
}

fn decode(text: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// What a verifier has to do, at the least.
fn verifies(token: &str, keys: &Value) -> bool {
    let (header, _) = parts_of(token);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let Some(key) = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]) else {
        return false;
    };
    match (key["alg"].as_str().unwrap(), header["alg"].as_str().unwrap()) {
        ("RS256", "RS256") => {
            let key = RsaPublicKeyComponents { n: decode(&key["n"]), e: decode(&key["e"]) };
            key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature).is_ok()
        }
        ("ES256", "ES256") => {
            let point = [vec![4], decode(&key["x"]), decode(&key["y"])].concat();
            let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
            key.verify(message.as_bytes(), &signature).is_ok()
        }
        _ => false,
    }
}

#[tokio::test]
async fn the_issuers_right_tokens_verify_and_its_forged_ones_do_not() {
    let issuer = Issuer::start().await;
    issuer.set_now(1_900_000_000);
    let keys = keys_of(&issuer).await;
    let claims = || github_claims("acme/web", "release.yml");
    for signing in [Signing::Rs256, Signing::Es256, Signing::WithHeader(json!({ "crit": ["b64"] }))] {
        assert!(verifies(&issuer.token_with(claims(), &signing), &keys), "{signing:?}");
    }
    let forged = [
        Signing::None,
        Signing::Hs256WithPublicKey,
        Signing::Tampered(json!({ "repository": "evil/web" })),
        Signing::BrokenSignature,
        Signing::ByAnotherKey,
        Signing::UnknownKid,
        Signing::NoKid,
        Signing::WrongAlg,
    ];
    for signing in forged {
        let token = issuer.token_with(claims(), &signing);
        assert!(!verifies(&token, &keys), "{signing:?}");
        assert_eq!(parts_of(&token).1["iss"], json!(issuer.url()));
    }
    let (header, payload) = parts_of(&issuer.token_with(claims(), &Signing::Tampered(json!({ "sub": "x" }))));
    assert_eq!((&header["alg"], &payload["sub"]), (&json!("RS256"), &json!("x")));

    let token = issuer.token(json!({ "sub": "a", "aud": "npm:registry", "exp": null, "iss": "https://other.test" }));
    let (_, payload) = parts_of(&token);
    assert_eq!((&payload["iat"], &payload["nbf"]), (&json!(1_900_000_000), &json!(1_900_000_000)));
    assert!(payload.get("exp").is_none() && payload["iss"] == "https://other.test");
    let other = parts_of(&issuer.token(json!({}))).1;
    assert_ne!(payload["jti"], other["jti"]);
    assert_eq!(other["exp"], json!(1_900_000_600));

    issuer.rotate();
    assert!(!verifies(&token, &keys_of(&issuer).await), "the old keys are gone");
    assert!(verifies(&issuer.token(claims()), &keys_of(&issuer).await));
}

#[tokio::test]
async fn the_issuer_counts_and_misbehaves() {
    let issuer = Issuer::start().await;
    keys_of(&issuer).await;
    assert_eq!(issuer.seen(), Seen { discovery: 1, keys: 1, others: 0 });
    let discovery = format!("{}/.well-known/openid-configuration", issuer.url());
    issuer.set_mode(Mode::Down);
    assert!(fetch(&discovery).await.is_err());
    issuer.set_mode(Mode::BrokenJson);
    assert!(fetch(&discovery).await.is_err());
    issuer.set_mode(Mode::WrongIssuer);
    assert_ne!(fetch(&discovery).await.unwrap()["issuer"], json!(issuer.url()));
    issuer.set_mode(Mode::KeysElsewhere);
    let keys_at = fetch(&discovery).await.unwrap()["jwks_uri"].clone();
    assert!(!keys_at.as_str().unwrap().starts_with(&issuer.url()));
    issuer.set_mode(Mode::Error(500));
    assert_eq!(fetch(&discovery).await, Ok(json!({})));
    issuer.set_mode(Mode::Slow(Duration::from_millis(200)));
    let began = Instant::now();
    assert_eq!(fetch(&discovery).await.unwrap()["issuer"], json!(issuer.url()));
    assert!(began.elapsed() >= Duration::from_millis(200));
    issuer.set_mode(Mode::NoKeys);
    assert_eq!(keys_of(&issuer).await, json!({ "keys": [] }));
    issuer.forget();
    assert_eq!(issuer.seen(), Seen::default());
}

#[test]
fn claims_are_those_of_the_ci_service() {
    let claims = github_claims("acme/web", "release.yml");
    assert_eq!(claims["sub"], "repo:acme/web:ref:refs/heads/main");
    assert_eq!(claims["workflow_ref"], "acme/web/.github/workflows/release.yml@refs/heads/main");
    assert!(claims["repository_id"].is_string() && claims["repository_owner_id"].is_string());
    assert_eq!(claims["repository_owner_id"], github_claims("acme/other", "x.yml")["repository_owner_id"]);
    assert_ne!(claims["repository_id"], github_claims("acme/other", "x.yml")["repository_id"]);
    let mut claims = claims;
    (claims["repository_id"], claims["repository_owner_id"]) = (json!("456"), json!("123"));
    assert_eq!(with_immutable_subject(claims)["sub"], "repo:acme@123/web@456:ref:refs/heads/main");
    let claims = gitlab_claims("group/sub/web");
    assert_eq!((&claims["namespace_path"], &claims["ref"]), (&json!("group/sub"), &json!("main")));
    assert_eq!(claims["sub"], "project_path:group/sub/web:ref_type:branch:ref:main");
}

#[tokio::test]
async fn a_browser_signs_in_at_the_stand_in() {
    let Some(browser) = Browser::start() else { return };
    let github = GitHub::start().await;
    github.add_user("ada");
    // It leads back to a page of the stand-in itself, so that this test needs no server.
    let authorize = format!(
        "{0}login/oauth/authorize?client_id={1}&state=a%26b&redirect_uri={0}login/device",
        github.web_url(),
        GitHub::CLIENT_ID
    );
    let picture = browser.folder().join("page.png");
    let report = browser
        .run(json!([
            { "goto": authorize },
            { "expect": "Authorize as ada" },
            { "screenshot": picture },
            { "click": "Authorize as ada" },
            { "url_contains": "code=" },
            { "expect": "Device Activation" },
            { "fill": ["input[name=user_code]", "WDJB-MJHT"] },
            { "evaluate": "document.querySelector('input').value" },
        ]))
        .await
        .ok();
    assert_eq!(report.results.last(), Some(&json!("WDJB-MJHT")));
    assert_eq!(report.title, "Device Activation");
    assert!(report.text.contains("Authorize as ada"), "{}", report.text);
    assert!(report.url.contains("state=a%26b"), "{}", report.url);
    assert!(std::fs::metadata(&picture).unwrap().len() > 1000);

    // The page and its cookies are still there for the next steps.
    let code = "document.cookie = 'seen=yes; SameSite=Lax'; document.head.insertAdjacentHTML('beforeend', \
                '<meta http-equiv=\"Content-Security-Policy\" content=\"img-src \\'none\\'\">'); \
                document.body.insertAdjacentHTML('beforeend', '<img src=\"/refused.png\">'); \
                new Promise(done => document.addEventListener('securitypolicyviolation', () => setTimeout(done, 0)))";
    let report = browser.run(json!([{ "evaluate": code }, { "cookies": true }])).await;
    assert!(report.ok, "{report:#?}");
    assert_eq!(report.cookie("seen").map(|cookie| &cookie["sameSite"]), Some(&json!("Lax")));
    assert!(report.csp_violations.iter().any(|violation| violation.contains("img-src")), "{report:#?}");
    assert!(!report.console_errors.is_empty());

    let report = browser.run(json!([{ "goto": "http://elsewhere.example.test/" }, { "expect": "x" }])).await;
    assert!(!report.ok && report.error.unwrap().contains("ERR_NAME_NOT_RESOLVED"), "nothing leaves this machine");
}
