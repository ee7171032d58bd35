//! Orders of operators to a running server, on a socket in its data directory.
//!
//! One order and one outcome a connection, a line of JSON each. The socket is its owner's alone (0600) from the moment it is
//! there: it is made in a folder that nobody else may enter, and whoever may write into the data directory could do all that
//! by hand.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::http::HttpService;
use crate::operator::{self, Desk, Errand, Outcome};

/// An htpasswd file of a hundred thousand lines.
const MAX_ORDER_BYTES: u64 = 16 << 20;
/// An order comes at once, or not at all.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// An outcome may take a while: an import makes many accounts.
const OUTCOME_TIMEOUT: Duration = Duration::from_mins(10);

/// Where the socket of a data directory is.
pub fn socket_of(directory: &Path) -> PathBuf {
    directory.join("-/control/orders")
}

/// Takes orders until told to stop. Call it as the owner of the directory: what a crash left there is cleared.
///
/// # Errors
/// When there can be no socket: its path is too long for the system, or the file system has none.
pub(super) async fn listen(service: HttpService, directory: &Path, stop: CancellationToken) -> io::Result<()> {
    let path = socket_of(directory);
    let folder = path.parent().unwrap_or(directory).to_owned();
    tokio::fs::create_dir_all(&folder).await?;
    tokio::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).await?;
    match tokio::fs::remove_file(&path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    tokio::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).await?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let app = service.app();
                    app.tasks.clone().spawn(async move {
                        if let Err(error) = serve(&app, stream).await {
                            tracing::warn!(%error, "an operator's order was cut off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an operator's order could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = stop.cancelled() => break,
        }
    }
    // The next start clears it if this fails.
    let _ = tokio::fs::remove_file(&path).await;
    Ok(())
}

async fn serve(app: &App, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(MAX_ORDER_BYTES));
    tokio::time::timeout(ORDER_TIMEOUT, reader.read_line(&mut line)).await.map_err(io::Error::other)??;
    let outcome = match serde_json::from_str::<Errand>(&line) {
        Ok(errand) => {
            let (registry, recorder, clock) = (&app.registry, &app.recorder, &app.clock);
            let (auth, waivers) = (registry.auth(), registry.waivers());
            let desk = Desk { auth, waivers, recorder, sinks: &app.sinks, clock, registry: Some(registry) };
            operator::carry_out(desk, errand).await
        }
        Err(_) => Outcome::Refused {
            why: "the order cannot be understood: server and command are of different versions".to_owned(),
        },
    };
    let mut answer = serde_json::to_vec(&outcome)?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}

/// Gives an order to the server that owns a directory.
///
/// # Errors
/// When no server takes orders there, or it does not answer.
pub async fn give(directory: &Path, errand: &Errand) -> io::Result<Outcome> {
    let stream = UnixStream::connect(socket_of(directory)).await?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(errand)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut answer = String::new();
    let mut reader = BufReader::new(reader);
    tokio::time::timeout(OUTCOME_TIMEOUT, reader.read_line(&mut answer)).await.map_err(io::Error::other)??;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
