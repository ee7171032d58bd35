//! The tests that speak HTTP, with requests of their own or with real clients. One program, because linking it is dear.
//!
//! A module has one subject. `support` is what they share. The client tests need `scripts/clients` to have run, and
//! those with servers of others `scripts/servers`; without it they skip, except in CI, where they fail.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, and says why"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start their own servers, and read where the tools of this machine are"
)]

mod access;
mod access_coverage;
mod attestations;
mod audit;
mod bucket;
mod canary;
mod clients_bucket;
mod clients_bun_deno;
mod clients_codebox;
mod clients_lambda;
mod clients_login;
mod clients_moving_over;
mod clients_npm;
mod clients_pnpm;
mod clients_policy;
mod clients_together;
mod clients_trust;
mod clients_yarn;
mod codebox;
mod codebox_bucket;
mod codebox_import;
mod crash_kill;
mod crash_points;
mod deprecation;
mod direct_publish;
mod dist_tags;
mod docs;
mod downloads;
mod encrypt;
mod events;
mod events_command;
mod events_recorded;
mod full_disk;
mod gc;
mod github_members;
mod github_sign_in;
mod github_standin;
mod harness;
mod hooks;
mod incidents;
mod index_command;
mod lambda;
mod lambda_bucket;
mod login;
mod monitoring;
mod moving_stores;
mod object_server;
mod operator;
mod owners;
mod packument;
mod policy;
mod policy_attacks;
mod policy_commands;
mod policy_standins;
mod profile;
mod proxied;
mod publish;
mod publish_refused;
mod real_project;
mod real_servers;
mod reload;
mod removing_stores;
mod replicas;
mod restart;
mod rules;
mod search;
mod second_factor;
mod server_process;
mod sign_in_brakes;
mod sinks;
mod slow_clients;
mod stack_removal;
mod standins;
mod stars;
mod storage_contract;
mod store_calls;
mod support;
mod tarball;
mod tokens;
mod traces;
mod transfer;
mod trust;
mod trust_refused;
mod unpublish;
mod upstream_faults;
mod verdaccio_import;
mod verify;
