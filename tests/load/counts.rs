//! Exactly N tokens in and M out, whatever the server takes, and no prompt like another.

use jouleplan::measure::load::{Api, Endpoint, LoadError, LoadPlan, Options, PromptMethod};

use crate::server::{PLAN, Server, load};

fn options(prompts: Option<PromptMethod>, api: Api) -> Options {
    Options { prompts, api, ..Options::default() }
}

/// Every way on several lengths; `usage` is what the server says, its own statistics what it did.
#[track_caller]
fn exact(arguments: &[&str], api: Api, method: PromptMethod, overhead: u32) {
    let server = Server::start(&[&["--step-s", "0.0002"], arguments].concat());
    let endpoint = server.fresh(options(None, api));
    assert_eq!((endpoint.prompt_method(), endpoint.prompt_overhead()), (method, overhead));
    for (input_tokens, output_tokens) in [(overhead + 1, 1), (overhead + 8, 5), (777, 16)] {
        let outcome = load(&endpoint, LoadPlan { input_tokens, output_tokens, ..PLAN });
        assert_eq!(outcome.failures(), Default::default(), "{input_tokens} in, {output_tokens} out");
        for request in &outcome.completed {
            assert_eq!((request.input_tokens, request.output_tokens), (input_tokens, output_tokens));
        }
        let summary = outcome.summary().unwrap();
        assert_eq!(summary.input_tokens, u64::from(20 * input_tokens));
        assert_eq!(summary.output_tokens, u64::from(20 * output_tokens));
    }
    assert_eq!(server.stats()["requests"], 60);
}

#[test]
fn token_ids_are_the_first_choice() {
    exact(&[], Api::Completions, PromptMethod::TokenIds, 0);
    exact(&["--tokenize", "none"], Api::Completions, PromptMethod::TokenIds, 0);
    exact(&["--tokenizer", "words", "--tokenize", "none"], Api::Completions, PromptMethod::TokenIds, 0);
}

#[test]
fn text_is_counted_by_the_servers_tokenizer() {
    exact(&["--no-token-ids"], Api::Completions, PromptMethod::Tokenize, 0);
    exact(&["--no-token-ids", "--start-token"], Api::Completions, PromptMethod::Tokenize, 1);
    let llama = ["--no-token-ids", "--start-token", "--tokenize", "llama.cpp", "--tokenizer", "words"];
    exact(&llama, Api::Completions, PromptMethod::Tokenize, 1);
    exact(&["--no-token-ids", "--tokenize", "tgi"], Api::Completions, PromptMethod::Tokenize, 0);
    exact(&[], Api::Chat, PromptMethod::Tokenize, 6);
}

#[test]
fn text_is_calibrated_where_nothing_else_works() {
    let none = ["--no-token-ids", "--tokenize", "none"];
    exact(&none, Api::Completions, PromptMethod::CalibratedText, 0);
    exact(&[&none[..], &["--start-token"]].concat(), Api::Completions, PromptMethod::CalibratedText, 1);
    exact(&[&none[..], &["--tokenizer", "words"]].concat(), Api::Completions, PromptMethod::CalibratedText, 0);
    exact(&none, Api::Chat, PromptMethod::CalibratedText, 6);
}

/// Without `ignore_eos` this server ends at random, and says so: no such answer counts.
#[test]
fn a_server_that_ends_early_fails_the_trial() {
    let server = Server::start(&["--strict", "--step-s", "0.0002", "--end-share", "0.2"]);
    let outcome = load(&server.endpoint(), LoadPlan { requests: 40, ..PLAN });
    let failures = outcome.failures();
    assert!(failures["wrong_output_tokens"] > 5 && failures.len() == 1, "{failures:?}");
    assert!(outcome.summary().is_none() && outcome.steady.is_none());
}

/// The first tokens all differ while there are enough of them; no plan repeats the prompts of another.
#[test]
fn prompts_share_no_prefix_and_ask_for_no_cache() {
    let server = Server::start(&["--step-s", "0.0002", "--tokenizer", "words", "--tokenize", "none"]);
    let endpoint = server.fresh(Options::default());
    load(&endpoint, LoadPlan { requests: 200, concurrency: 8, ..PLAN });
    let stats = server.stats();
    assert_eq!(stats["distinct_first_tokens"], 200);
    assert_eq!(stats["longest_shared_prefix"], 0);
    assert_eq!(stats["prompts_that_may_be_cached"], 0);
    load(&endpoint, LoadPlan { requests: 200, seed: 2, ..PLAN });
    let stats = server.stats();
    assert_eq!(stats["distinct_prompts"], 400);
    assert!(stats["longest_shared_prefix"].as_u64().unwrap() <= 2, "{stats}");
    // The same seed makes the same prompts: a trial can be repeated.
    load(&endpoint, LoadPlan { requests: 200, ..PLAN });
    assert_eq!(server.stats()["distinct_prompts"], 400);
}

#[test]
fn what_cannot_be_loaded_is_refused_with_a_reason() {
    let server = Server::start(&["--max-model-len", "100", "--startup-s", "0.3"]);
    let endpoint = server.endpoint();
    assert_eq!((endpoint.model(), endpoint.max_model_len()), ("tiny", Some(100)));
    let engine = endpoint.engine().unwrap();
    assert_eq!((engine.name.as_str(), engine.version.as_deref()), ("tiny_server", Some(env!("CARGO_PKG_VERSION"))));
    let refused = |plan: LoadPlan| jouleplan::measure::load::run(&endpoint, &plan, &|_| {}).unwrap_err();
    assert!(matches!(refused(LoadPlan { input_tokens: 93, ..PLAN }), LoadError::TooLong { limit: 100, .. }));
    assert!(matches!(refused(LoadPlan { requests: 0, ..PLAN }), LoadError::Empty { what: "requests" }));
    let chat = server.connect(options(None, Api::Chat)).unwrap();
    let short = jouleplan::measure::load::run(&chat, &LoadPlan { input_tokens: 6, ..PLAN }, &|_| {}).unwrap_err();
    assert!(matches!(short, LoadError::InputTooShort { overhead: 6, least: 7, .. }), "{short}");

    let other = Endpoint::connect(&server.url(), Some("other"), Options::default()).unwrap_err();
    assert!(other.to_string().contains("serves tiny, not other"), "{other}");
    let ids = server.connect(options(Some(PromptMethod::TokenIds), Api::Chat)).unwrap_err();
    assert!(ids.to_string().contains("token ids: chat takes text only"), "{ids}");
    let silent = Server::start(&["--no-usage"]);
    assert!(matches!(silent.connect(Options::default()), Err(LoadError::NoUsage { .. })));
}
