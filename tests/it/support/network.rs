//! A network of the test's own: a namespace of Linux with two lines to this machine, one for clients and one to the store,
//! which can be cut as a cable can, without a word to either side.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A namespace and its lines. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    /// The first three numbers of all its addresses.
    net: String,
    /// The ends of the lines that are on this machine: for clients, and to the store.
    lines: [String; 2],
}

impl Network {
    /// `None` where the test may not make one, of which it says so: it takes root, and `ip` of iproute2.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed) * 101;
        let name = format!("holdfast-{number}");
        if !ip(&["netns", "add", &name]) {
            eprintln!("skipped: this test may not make a network namespace");
            return None;
        }
        let lines = [format!("hf{number}c"), format!("hf{number}s")];
        let network = Self { name, net: format!("10.231.{}", number % 250), lines };
        // Two addresses on each line: one here, one there.
        for (line, (here, there)) in network.lines.iter().zip([(1, 2), (5, 6)]) {
            let (name, far) = (&*network.name, format!("{line}n"));
            let address = |number: u32| format!("{}.{number}/30", network.net);
            let steps: [&[&str]; 5] = [
                &["link", "add", line, "type", "veth", "peer", "name", &far, "netns", name],
                &["address", "add", &address(here), "dev", line],
                &["link", "set", line, "up"],
                &["-n", name, "address", "add", &address(there), "dev", &far],
                &["-n", name, "link", "set", &far, "up"],
            ];
            if !steps.iter().all(|step| ip(step)) {
                eprintln!("skipped: this test may not lay lines between network namespaces");
                return None;
            }
        }
        Some(network)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where clients on this machine reach what listens inside.
    pub(crate) fn inside(&self) -> String {
        format!("{}.2", self.net)
    }

    /// Where what is inside reaches the store that listens on this machine.
    pub(crate) fn store_side(&self) -> String {
        format!("{}.5", self.net)
    }

    /// Takes the line to the store down.
    pub(crate) fn cut(&self) {
        assert!(ip(&["link", "set", &self.lines[1], "down"]));
    }

    /// Has it up again.
    pub(crate) fn mend(&self) {
        assert!(ip(&["link", "set", &self.lines[1], "up"]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Their other ends are inside and go with them.
        for line in &self.lines {
            ip(&["link", "delete", line]);
        }
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
