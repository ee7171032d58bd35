//! Lines of JSON at the end of a file.
//!
//! The file is opened for each batch, so that one that was moved away by log rotation is made anew. A batch is in it whole and
//! synced, or not at all: what a full disk cut short is taken back, and a line that a crash cut short is ended.

use std::io::{self, SeekFrom};
use std::path::Path;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::message::Failure;
use crate::events::Event;

/// Appends events. On disk when it returns.
pub(super) async fn append(path: &Path, events: &[Event]) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event).map_err(|error| Failure::Lasting { why: error.to_string() })?;
        lines.push(b'\n');
    }
    write(path, lines).await.map_err(|error| Failure::passing(format!("the file cannot be written: {error}")))
}

async fn write(path: &Path, mut lines: Vec<u8>) -> io::Result<()> {
    // Events tell who came from where, which is nobody else's business.
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).await?;
    let length = file.seek(SeekFrom::End(0)).await?;
    if length > 0 && !ends_a_line(&mut file).await? {
        lines.insert(0, b'\n');
    }
    let written = async {
        file.write_all(&lines).await?;
        // What came of the write is told here, and by nothing else.
        file.flush().await?;
        file.sync_data().await
    };
    if let Err(error) = written.await {
        file.set_len(length).await?;
        return Err(error);
    }
    Ok(())
}

async fn ends_a_line(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::End(-1)).await?;
    let mut last = [0];
    file.read_exact(&mut last).await?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Kind, Who};
    use crate::npm::Timestamp;

    #[tokio::test]
    async fn lines_are_whole_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let event = Event::new(Kind::Publish, Who::server(), Timestamp::from_millis(0));
        append(&path, &[event.clone(), event.clone()]).await.unwrap();
        // A crash has left half a line; then somebody moves the file away.
        std::fs::write(&path, [&std::fs::read(&path).unwrap(), &b"{\"id\":"[..]].concat()).unwrap();
        append(&path, std::slice::from_ref(&event)).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<_> = text.lines().map(serde_json::from_str::<Event>).collect();
        assert_eq!(read.iter().filter(|line| line.is_ok()).count(), 3);
        assert_eq!(read.len(), 4);
        std::fs::rename(&path, folder.path().join("events.jsonl.1")).unwrap();
        append(&path, std::slice::from_ref(&event)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(append(&folder.path().join("absent/events.jsonl"), &[event]).await.is_err());
    }
}
