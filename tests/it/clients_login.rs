//! Every way in, as a person goes it: a client on a terminal, and a browser where the client asks for one.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::browser::{Browser, Report};
use crate::support::clients::{
    BUN, Client, Kind, NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_11, PNPM_12, Session, Tool, YARN_1, YARN_4,
};
use crate::support::github::GitHub;
use crate::support::server::{Server, Settings};

const PASSWORD: &str = "correct horse battery";

/// A server whose people are those of a GitHub: ada is a member of acme, eve of nothing.
struct Place {
    github: GitHub,
    server: Server,
}

fn settings_file(github: &GitHub) -> String {
    format!(
        "[github]\nclient_id = \"{}\"\nclient_secret = \"{}\"\napi_url = \"{}\"\norganizations = [\"acme\"]\n",
        GitHub::CLIENT_ID,
        GitHub::CLIENT_SECRET,
        github.api_url()
    )
}

impl Place {
    async fn of(github: GitHub, settings: Settings, more: &str) -> Self {
        github.add_user("ada");
        github.add_user("eve");
        github.add_member("acme", "ada", false);
        let server = settings.config(&format!("{}{more}", settings_file(&github))).start().await;
        github.register_callback(&format!("{}-/github/callback", server.url()));
        Self { github, server }
    }

    async fn start() -> Self {
        Self::of(GitHub::start().await, Settings::alone(), "").await
    }

    /// A token of ours, as ada has after a sign-in.
    async fn token(&self) -> String {
        self.server.http().create_user("ada", &self.github.personal_token("ada")).await
    }
}

/// Where pictures of the pages go; kept only if somebody says where.
fn picture(browser: &Browser, name: &str) -> String {
    let kept = std::env::var_os("HOLDFAST_TEST_PICTURES");
    let folder = kept.as_deref().map_or_else(|| browser.folder().to_owned(), |folder| Path::new(folder).to_owned());
    folder.join(format!("{name}.png")).display().to_string()
}

/// Pictures as on a telephone and as on a desk, and nothing may be wider than the page.
fn look(browser: &Browser, name: &str) -> Vec<serde_json::Value> {
    let too_wide = "if (document.documentElement.scrollWidth > innerWidth) throw new Error('wider than the page')";
    vec![
        json!({ "viewport": [390, 844] }),
        json!({ "evaluate": too_wide }),
        json!({ "screenshot": picture(browser, &format!("{name}-390")) }),
        json!({ "viewport": [1280, 800] }),
        json!({ "screenshot": picture(browser, &format!("{name}-1280")) }),
    ]
}

/// Opens the page that a client has named, signs in at GitHub as ada, and says yes or no.
async fn decide(browser: &Browser, url: &str, client: &str, name: &str, decision: &str) -> Report {
    let mut steps = vec![json!({ "goto": url }), json!({ "expect": client }), json!({ "expect": "127.0.0.1" })];
    steps.extend(look(browser, &format!("{name}-1-sign-in")));
    steps.push(json!({ "click": "Sign in with GitHub" }));
    steps.push(json!({ "click": "Authorize as ada" }));
    // Back from there, the page asks whether to go on, and says who asks.
    steps.push(json!({ "expect_css": ".who:has-text('ada')" }));
    steps.push(json!({ "expect": client }));
    steps.push(json!({ "expect": "127.0.0.1" }));
    steps.extend(look(browser, &format!("{name}-2-confirm")));
    steps.push(json!({ "click": format!("button[value={decision}]") }));
    steps.push(json!({ "expect": if decision == "deny" { "Nothing was done" } else { "You can close this page" } }));
    steps.extend(look(browser, &format!("{name}-3-{decision}")));
    let report = browser.run(json!(steps)).await.ok();
    assert!(report.console_errors.is_empty(), "{report:#?}");
    report
}

fn login_command(tool: Tool) -> &'static [&'static str] {
    match tool.kind {
        // It prints the address, as on a machine without a browser.
        Kind::Npm => &["login", "--browser=false"],
        Kind::YarnBerry => &["npm", "login", "--web-login"],
        _ => &["login"],
    }
}

fn whoami(tool: Tool) -> &'static [&'static str] {
    if tool.kind == Kind::YarnBerry { &["npm", "whoami"] } else { &["whoami"] }
}

/// What its requests are known by on the page: some have the name of the library that sends them.
fn name_of(tool: Tool) -> &'static str {
    match tool.kind {
        Kind::Npm => "npm/",
        Kind::Pnpm if tool.major == 11 => "undici",
        Kind::Pnpm => "pnpm",
        Kind::YarnBerry => "got",
        Kind::YarnClassic => "yarn",
        Kind::Bun => "Bun",
        Kind::Deno => "Deno",
    }
}

/// Berry asks whether it shall open a browser, and prints the address when it shall not.
const NO_BROWSER: &[(&str, &str)] = &[("open your browser now|open this url now", "n")];

async fn signs_in_in_the_browser(tool: Tool, settings: Settings) {
    let place = Place::of(GitHub::start().await, settings, "").await;
    let Some(client) = Client::of(tool, &place.server) else { return };
    let Some(browser) = Browser::start() else { return };
    let folder = client.project("a-root", &json!({}));
    client.run(&folder, whoami(tool)).await.fails();

    // No is no.
    let mut session = client.start_answering(&folder, login_command(tool), NO_BROWSER);
    let Some(url) = session.url_with("/-/login/") else { return };
    assert!(url.starts_with(&place.server.url()), "{url}");
    decide(&browser, &url, name_of(tool), &format!("{}-no", tool.folder), "deny").await;
    match tool.kind {
        // It asks for a name and a password after whatever does not work in the browser, and says why.
        Kind::Npm => {
            let reason = "The sign-in was denied in the browser";
            let asked = |text: &str| (text.contains("Username:") && text.contains(reason)).then_some(());
            session.wait_for("the reason and a prompt", asked);
            drop(session);
        }
        // It shows the status of an answer, and nothing of what is in it.
        Kind::YarnBerry => drop(session.end().await.fails().says("403")),
        // It asks whether it is done until its own five minutes are over, whatever the answer.
        _ => drop(session),
    }
    client.run(&folder, whoami(tool)).await.fails();

    place.github.sign_out();
    let mut session = client.start_answering(&folder, login_command(tool), NO_BROWSER);
    let Some(url) = session.url_with("/-/login/") else { return };
    decide(&browser, &url, name_of(tool), tool.folder, "confirm").await;
    session.end().await.ok();
    client.run(&folder, whoami(tool)).await.ok().says("ada");
    // The page cannot be used again.
    let report = browser.run(json!([{ "goto": url }, { "absent": "Confirm" }, { "absent": "Password" }])).await.ok();
    assert!(report.text.contains("picked up"), "{report:#?}");
}

#[tokio::test]
async fn npm_10_signs_in_in_the_browser() {
    signs_in_in_the_browser(NPM_10, Settings::alone()).await;
}

#[tokio::test]
async fn npm_11_signs_in_in_the_browser_under_a_path() {
    signs_in_in_the_browser(NPM_11, Settings::alone().prefix("/prod/registry")).await;
}

#[tokio::test]
async fn npm_12_signs_in_in_the_browser() {
    signs_in_in_the_browser(NPM_12, Settings::alone()).await;
}

#[tokio::test]
async fn pnpm_11_signs_in_in_the_browser() {
    signs_in_in_the_browser(PNPM_11, Settings::alone()).await;
}

#[tokio::test]
async fn pnpm_12_signs_in_in_the_browser_under_a_path() {
    signs_in_in_the_browser(PNPM_12, Settings::alone().prefix("/prod/registry")).await;
}

#[tokio::test]
async fn yarn_4_signs_in_in_the_browser() {
    signs_in_in_the_browser(YARN_4, Settings::alone()).await;
}

#[tokio::test]
async fn a_stranger_to_the_organisation_is_told_so_in_the_browser() {
    let place = Place::start().await;
    let Some(npm) = Client::of(NPM_11, &place.server) else { return };
    let Some(browser) = Browser::start() else { return };
    let mut session = npm.start_answering(&npm.home(), login_command(NPM_11), &[]);
    let Some(url) = session.url_with("/-/login/") else { return };
    let mut steps = vec![
        json!({ "goto": url }),
        json!({ "click": "Sign in with GitHub" }),
        json!({ "click": "Authorize as eve" }),
        json!({ "expect": "is in none of the organisations" }),
    ];
    steps.extend(look(&browser, "stranger"));
    // That somebody else was signed in is no obstacle to trying again as the right one.
    steps.extend([
        json!({ "goto": url }),
        json!({ "click": "Sign in with GitHub" }),
        json!({ "click": "Authorize as ada" }),
        json!({ "click": "button[value=confirm]" }),
        json!({ "expect": "You are signed in" }),
    ]);
    browser.run(json!(steps)).await.ok();
    session.end().await.ok();
    npm.run(&npm.home(), &["whoami"]).await.ok().says("ada");
}

#[tokio::test]
async fn a_local_account_signs_in_in_the_browser_without_a_one_time_code() {
    let github = GitHub::start().await;
    let more = "[access]\nregistration = \"open\"\n";
    let place = Place::of(github, Settings::alone(), more).await;
    let Some(npm) = Client::of(NPM_11, &place.server) else { return };
    let Some(browser) = Browser::start() else { return };
    let mut session = npm.start_answering(&npm.home(), login_command(NPM_11), &[]);
    let Some(url) = session.url_with("/-/login/") else { return };
    let sign_in = |password: &str| {
        [
            json!({ "fill": ["#user", "robot"] }),
            json!({ "fill": ["#password", password] }),
            json!({ "click": "form button[type=submit]" }),
        ]
    };
    // The first time makes the account, the second finds it.
    let mut steps = vec![json!({ "goto": url })];
    steps.extend(sign_in(PASSWORD));
    steps.extend([json!({ "expect": "robot" }), json!({ "click": "button[value=confirm]" })]);
    steps.push(json!({ "expect": "You are signed in" }));
    browser.run(json!(steps)).await.ok();
    session.end().await.ok();
    npm.run(&npm.home(), &["whoami"]).await.ok().says("robot");

    let mut session = npm.start_answering(&npm.home(), login_command(NPM_11), &[]);
    let Some(url) = session.url_with("/-/login/") else { return };
    let mut steps = vec![json!({ "goto": url })];
    steps.extend(sign_in("not this"));
    steps.push(json!({ "expect": "The user name or the password is wrong" }));
    steps.extend(look(&browser, "wrong-password"));
    steps.extend(sign_in(PASSWORD));
    steps.extend([json!({ "click": "button[value=confirm]" }), json!({ "expect": "You are signed in" })]);
    browser.run(json!(steps)).await.ok();
    session.end().await.ok();
}

/// The answers to a prompt for name, password and mail address, whichever of them are asked for.
fn credentials<'a>(user: &'a str, password: &'a str) -> [(&'static str, &'a str); 3] {
    [("username", user), ("password", password), ("email", "ada@example.test")]
}

async fn signs_in_with_a_token_of_github(tool: Tool) {
    let place = Place::start().await;
    let Some(client) = Client::of(tool, &place.server) else { return };
    let folder = client.home();
    let args = if tool.major == 6 { &["login"][..] } else { &["login", "--auth-type=legacy"] };

    let wrong = format!("ghp_{}", "x1Y2".repeat(9));
    let run = client.run_answering(&folder, args, &credentials("ada", &wrong)).await;
    run.fails().says("The user name or the password is wrong");
    let run = client.run_answering(&folder, args, &credentials("ada", "my password at GitHub")).await;
    run.fails().says("GitHub takes no passwords: type a personal access token");
    let foreign = place.github.personal_token("eve");
    client.run_answering(&folder, args, &credentials("eve", &foreign)).await.fails().says("none of the organisations");

    let right = place.github.personal_token("ada");
    client.run_answering(&folder, args, &credentials("ada", &right)).await.ok();
    client.run(&folder, &["whoami"]).await.ok().says("ada");
    let npmrc = std::fs::read_to_string(folder.join(".npmrc")).unwrap();
    assert!(npmrc.contains("hfst_") && !npmrc.contains("ghp_"), "GitHub's token does not lie around: {npmrc}");
    client.run(&folder, &["logout"]).await.ok();
    client.run(&folder, &["whoami"]).await.fails();
}

#[tokio::test]
async fn npm_6_signs_in_with_a_token_of_github() {
    signs_in_with_a_token_of_github(NPM_6).await;
}

#[tokio::test]
async fn npm_8_signs_in_with_a_token_of_github() {
    signs_in_with_a_token_of_github(NPM_8).await;
}

#[tokio::test]
async fn npm_10_signs_in_with_a_token_of_github() {
    signs_in_with_a_token_of_github(NPM_10).await;
}

#[tokio::test]
async fn npm_11_signs_in_with_a_token_of_github() {
    signs_in_with_a_token_of_github(NPM_11).await;
}

#[tokio::test]
async fn yarn_1_publishes_with_a_token_of_github() {
    let place = Place::start().await;
    let Some(yarn) = Client::of(YARN_1, &place.server) else { return };
    let package = yarn.package("@acme/tool", "1.0.0");
    let args = ["publish", "--new-version", "1.0.0", "--access", "public"];
    // It notes the name, and asks for the password when it needs it.
    let [name, _, email] = credentials("ada", "");
    yarn.run_answering(&yarn.home(), &["login"], &[name, email]).await.ok();
    let wrong = format!("ghp_{}", "x1Y2".repeat(9));
    let run = yarn.run_answering(&package, &args, &[("question npm password", &wrong)]).await;
    run.fails().says("The user name or the password is wrong");
    let right = place.github.personal_token("ada");
    let run = yarn.run_answering(&package, &args, &[("question npm password", &right)]).await;
    run.ok().says("Published");
}

async fn signs_in_at_an_old_enterprise_server(tool: Tool) {
    let place = Place::of(GitHub::start_old_enterprise().await, Settings::alone(), "").await;
    place.github.set_password("ada", "my password at GitHub", Some("123456"));
    let Some(npm) = Client::of(tool, &place.server) else { return };
    let folder = npm.home();
    let args = if tool.major == 6 { &["login"][..] } else { &["login", "--auth-type=legacy"] };
    npm.run_answering(&folder, args, &credentials("ada", "wrong")).await.fails().says("password is wrong");

    let [name, password, email] = credentials("ada", "my password at GitHub");
    let answers = [name, password, email, ("one-time password|enter otp", "123456")];
    npm.run_answering(&folder, args, &answers).await.ok();
    npm.run(&folder, &["whoami"]).await.ok().says("ada");

    // As codebox had it: the code behind the name.
    npm.log_in_with("hfst_none");
    npm.run_answering(&folder, args, &credentials("ada.123456", "my password at GitHub")).await.ok();
    npm.run(&folder, &["whoami"]).await.ok().says("ada");
}

#[tokio::test]
async fn npm_6_signs_in_at_an_old_enterprise_server() {
    signs_in_at_an_old_enterprise_server(NPM_6).await;
}

#[tokio::test]
async fn npm_8_signs_in_at_an_old_enterprise_server() {
    signs_in_at_an_old_enterprise_server(NPM_8).await;
}

#[tokio::test]
async fn npm_11_signs_in_at_an_old_enterprise_server() {
    signs_in_at_an_old_enterprise_server(NPM_11).await;
}

/// An authenticator app: RFC 6238 with HMAC-SHA-1, six digits, thirty seconds.
struct App {
    secret: Vec<u8>,
    /// The step of the last code; no code is good twice.
    last: u64,
}

const STEP: u64 = 30;

impl App {
    fn with(secret: &str) -> Self {
        let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
        for letter in secret.bytes() {
            let five = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
            bits = (bits << 5) | u32::try_from(five).unwrap();
            count += 5;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from((bits >> count) & 0xff).unwrap());
            }
        }
        Self { secret: bytes, last: 0 }
    }

    /// The next code that is good: of the step before where that lasts a while, and never one that was used. Waits for the
    /// clock when they are used up.
    async fn code(&mut self) -> String {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let oldest = if now() % STEP < STEP - 15 { now() / STEP - 1 } else { now() / STEP };
        let step = oldest.max(self.last + 1);
        let deadline = now() + 2 * STEP;
        while step > now() / STEP + 1 {
            assert!(now() < deadline, "the clock stands still");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.last = step;
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let tag = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
        let at = usize::from(tag.as_ref()[19] & 15);
        let four = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", four % 1_000_000)
    }
}

/// Answers the prompt for a code when it is there, so that the code is a fresh one.
async fn type_code(session: &mut Session, app: &mut App) {
    let asked = |text: &str| {
        let text = text.to_lowercase();
        (text.contains("one-time password:") || text.contains("enter otp:") || text.contains("one-time password (otp)"))
            .then_some(())
    };
    if session.wait_for("a prompt for a code", asked).is_some() {
        let code = app.code().await;
        session.answer("one-time password|otp", &code);
    }
}

/// Turns one-time codes on for alice, by requests of the test's own.
async fn app_of_alice(server: &Server, token: &str) -> App {
    let http = server.http().with_token(token);
    let post = async |body: serde_json::Value| {
        let body = serde_json::to_vec(&body).unwrap();
        let json = [("content-type", "application/json")];
        http.send(reqwest::Method::POST, "/-/npm/v1/user", &json, body).await.ok().json()
    };
    let begun = post(json!({ "tfa": { "password": PASSWORD, "mode": "auth-and-writes" } })).await;
    let url = url::Url::parse(begun["tfa"].as_str().unwrap()).unwrap();
    let mut app = App::with(&url.query_pairs().find(|(name, _)| name == "secret").unwrap().1);
    let code = app.code().await;
    assert!(post(json!({ "tfa": [code] })).await["tfa"].is_array());
    app
}

#[tokio::test]
async fn npm_11_turns_one_time_codes_on_and_is_asked_for_them() {
    let server = Settings::alone().start().await;
    let Some(npm) = Client::of(NPM_11, &server) else { return };
    npm.log_in_with(&server.http().create_user("alice", PASSWORD).await);
    let folder = npm.home();
    let args = ["profile", "enable-2fa", "auth-and-writes"];
    let mut session = npm.start_answering(&folder, &args, &[("npm password:", PASSWORD)]);
    let secret = session.wait_for("the app's secret", |text| {
        let (_, rest) = text.split_once("Or enter code:")?;
        let secret = rest.split_whitespace().next()?;
        (secret.len() == 32).then(|| secret.to_owned())
    });
    let Some(secret) = secret else { return };
    let mut app = App::with(&secret);
    let code = app.code().await;
    session.answer("OTP code from your authenticator", &code);
    let run = session.end().await.ok().says("2FA successfully enabled");
    let recovery: Vec<String> = run
        .stdout
        .lines()
        .map(str::trim)
        .filter(|line| line.len() == 24 && line.bytes().all(|byte| byte == b' ' || byte.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    assert_eq!(recovery.len(), 10, "{run}");
    npm.run(&folder, &["profile", "get"]).await.ok().says("auth-and-writes");

    let package = npm.package("@acme/tool", "1.0.0");
    npm.run(&package, &["publish"]).await.fails().says("EOTP");
    let mut session = npm.start_answering(&package, &["publish"], &[]);
    type_code(&mut session, &mut app).await;
    session.end().await.ok().says("+ @acme/tool@1.0.0");
    // Whoever lost the app types a recovery code at the same prompt; it works once.
    let package = npm.package("@acme/tool", "1.1.0");
    npm.run_answering(&package, &["publish"], &[("enter otp", &recovery[0])]).await.ok();
    let package = npm.package("@acme/tool", "1.2.0");
    npm.run_answering(&package, &["publish"], &[("enter otp", &recovery[0])]).await.fails().says("EOTP");

    // Signing in asks for one, too.
    let mut session = npm.start_answering(&folder, &["login"], &credentials("alice", PASSWORD));
    type_code(&mut session, &mut app).await;
    session.end().await.ok();
    let disable = ["profile", "disable-2fa"];
    let mut session = npm.start_answering(&folder, &disable, &[("npm password:", PASSWORD)]);
    type_code(&mut session, &mut app).await;
    session.end().await.ok().says("disabled");
    npm.run(&package, &["publish"]).await.ok();
}

#[tokio::test]
async fn clients_ask_for_the_code_of_an_app_when_they_publish() {
    for tool in [NPM_6, NPM_8, NPM_10, NPM_12, PNPM_11, PNPM_12, YARN_1, YARN_4, BUN] {
        let server = Settings::alone().start().await;
        let Some(client) = Client::of(tool, &server) else { return };
        let token = server.http().create_user("alice", PASSWORD).await;
        let mut app = app_of_alice(&server, &token).await;
        client.log_in_with(&token);
        let package = client.package("@acme/tool", "1.0.0");
        if tool.kind == Kind::YarnBerry {
            client.install(&package).await.ok();
        }
        let mut session = client.start_answering(&package, publish_command(tool), &[]);
        type_code(&mut session, &mut app).await;
        session.end().await.ok();
        assert_eq!(server.http().get("/@acme%2ftool").await.ok().json()["dist-tags"]["latest"], "1.0.0", "{tool:?}");
    }
}

fn publish_command(tool: Tool) -> &'static [&'static str] {
    match tool.kind {
        Kind::Npm => &["publish", "--access", "public", "--browser=false"],
        Kind::Pnpm => &["publish", "--no-git-checks", "--access", "public"],
        Kind::YarnClassic => &["publish", "--new-version", "1.0.0", "--access", "public"],
        Kind::YarnBerry => &["npm", "publish", "--access", "public"],
        Kind::Bun | Kind::Deno => &["publish", "--access", "public"],
    }
}

async fn manages_tokens_and_profile(tool: Tool) {
    let server = Settings::alone().start().await;
    let Some(npm) = Client::of(tool, &server) else { return };
    npm.log_in_with(&server.http().create_user("alice", PASSWORD).await);
    let folder = npm.home();
    let password = [("npm password:", PASSWORD)];
    let is_granular = tool.major >= 11;
    let limits: &[&str] = if is_granular {
        &["--name=ci", "--scopes=@acme", "--packages-and-scopes-permission=read-only", "--expires=7"]
    } else {
        &["--read-only"]
    };
    let create = [&["token", "create"], limits].concat();
    npm.run_answering(&folder, &create, &[("npm password:", "not this")]).await.fails();
    let run = npm.run_answering(&folder, &create, &password).await.ok();
    let find = |text: &str| {
        let at = text.find("hfst_")?;
        Some(text[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next()?.to_owned())
    };
    let Some(token) = find(&run.stdout) else {
        run.expect(false, "it should have shown the token");
        return;
    };
    let with_token = server.http().with_token(&token);
    assert_eq!(with_token.get("/-/whoami").await.ok().json()["username"], "alice");
    // Its limits hold.
    let answer = with_token.publish(&crate::support::tarballs::Tarball::new("@acme/tool", "1.0.0")).await;
    assert_eq!(answer.status, 403, "{}", answer.text());

    let list = npm.run(&folder, &["token", "list", "--json"]).await.ok().json();
    let made = list.as_array().unwrap().iter().find(|shown| shown["readonly"] == true);
    let Some(made) = made else {
        npm.expect(false, &format!("the new token should be in the list: {list:#}"));
        return;
    };
    npm.run(&folder, &["token", "list"]).await.ok();
    let key: String = made["key"].as_str().unwrap().chars().take(12).collect();
    npm.run(&folder, &["token", "revoke", &key]).await.ok();
    assert_eq!(with_token.get("/-/whoami").await.status, 401);

    npm.run(&folder, &["profile", "set", "fullname", "Alice Example"]).await.ok();
    npm.run(&folder, &["profile", "get", "fullname"]).await.ok().says("Alice Example");
    let change = [("current password", PASSWORD), ("new password", "another horse"), ("again", "another horse")];
    npm.run_answering(&folder, &["profile", "set", "password"], &change).await.ok();
    assert_eq!(sign_in(&server, PASSWORD).await, 401);
    assert_eq!(sign_in(&server, "another horse").await, 201);
    npm.run(&folder, &["logout"]).await.ok();
    npm.run(&folder, &["whoami"]).await.fails();
}

async fn sign_in(server: &Server, password: &str) -> u16 {
    let body = json!({ "name": "alice", "password": password, "type": "user" });
    server.http().put("/-/user/org.couchdb.user:alice", &body).await.status.as_u16()
}

#[tokio::test]
async fn npm_8_manages_tokens_and_profile() {
    manages_tokens_and_profile(NPM_8).await;
}

#[tokio::test]
async fn npm_10_manages_tokens_and_profile() {
    manages_tokens_and_profile(NPM_10).await;
}

#[tokio::test]
async fn npm_11_manages_tokens_and_profile() {
    manages_tokens_and_profile(NPM_11).await;
}

#[tokio::test]
async fn npm_12_manages_tokens_and_profile() {
    manages_tokens_and_profile(NPM_12).await;
}

/// A publish that ada has to confirm on a page. Those that do not ask by themselves whether she did are given a code.
async fn confirms_a_publish_in_the_browser(tool: Tool, more: &[&str], types_the_code: bool) {
    let rule = "[[package]]\nname = \"@acme/*\"\npublish = [\"github:org/acme\"]\nconfirm = true\n";
    let place = Place::of(GitHub::start().await, Settings::alone(), rule).await;
    let Some(client) = Client::of(tool, &place.server) else { return };
    let Some(browser) = Browser::start() else { return };
    let token = place.token().await;
    client.log_in_with(&token);
    let package = client.package("@acme/tool", "1.0.0");
    if tool.kind == Kind::YarnBerry {
        client.install(&package).await.ok();
    }
    let mut session = client.start_answering(&package, &[publish_command(tool), more].concat(), NO_BROWSER);
    let Some(url) = session.url_with("/-/login/") else { return };
    let name = format!("publish-{}{}", tool.folder, if types_the_code { "-code" } else { "" });
    let report = decide(&browser, &url, "@acme/tool", &name, "confirm").await;
    if types_the_code {
        let report = browser.run(json!([{ "evaluate": "document.querySelector('output').textContent" }])).await.ok();
        let code = report.results[0].as_str().unwrap().trim().to_owned();
        session.answer("one-time password:|enter otp:|one-time password \\(otp\\)", &code);
    }
    session.end().await.ok();
    let http = place.server.http().with_token(&token);
    let document = http.get("/@acme%2ftool").await.ok().json();
    assert_eq!(document["dist-tags"]["latest"], "1.0.0", "{}", report.text);
}

#[tokio::test]
async fn npm_11_confirms_a_publish_in_the_browser() {
    confirms_a_publish_in_the_browser(NPM_11, &[], false).await;
}

#[tokio::test]
async fn npm_12_confirms_a_publish_in_the_browser() {
    confirms_a_publish_in_the_browser(NPM_12, &[], false).await;
}

#[tokio::test]
async fn pnpm_12_confirms_a_publish_in_the_browser() {
    confirms_a_publish_in_the_browser(PNPM_12, &[], false).await;
}

#[tokio::test]
async fn bun_confirms_a_publish_in_the_browser() {
    confirms_a_publish_in_the_browser(BUN, &[], false).await;
}

#[tokio::test]
async fn yarn_1_takes_the_code_of_a_confirmation_in_the_browser() {
    confirms_a_publish_in_the_browser(YARN_1, &[], true).await;
}

#[tokio::test]
async fn yarn_4_takes_the_code_of_a_confirmation_in_the_browser() {
    confirms_a_publish_in_the_browser(YARN_4, &[], true).await;
}

#[tokio::test]
async fn npm_6_takes_the_code_of_a_confirmation_in_the_browser() {
    confirms_a_publish_in_the_browser(NPM_6, &[], true).await;
}

#[tokio::test]
async fn npm_10_takes_the_code_of_a_confirmation_in_the_browser() {
    confirms_a_publish_in_the_browser(NPM_10, &["--auth-type=legacy"], true).await;
}
