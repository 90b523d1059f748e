//! The description and the server agree: every route is described, every described route answers,
//! and every answer looks as described.

use serde_json::Value;

use crate::client::{Answer, Sse, request};
use crate::samples;
use crate::world::{TOKEN, World};

/// What has to be there.
const PATHS: &[&str] = &[
    "/docs",
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/blocks",
    "/v1/blocks/{block_hash}",
    "/v1/channels",
    "/v1/declarations",
    "/v1/declarations/{id}",
    "/v1/events",
    "/v1/events/heads",
    "/v1/events/stream",
    "/v1/miners",
    "/v1/miners/{user}",
    "/v1/nodes",
    "/v1/openapi.json",
    "/v1/receipts/keys",
    "/v1/schemas",
    "/v1/schemas/{event}",
    "/v1/shares/summary",
    "/v1/templates",
    "/v1/templates/{template_hash}",
    "/v1/tokens",
    "/v1/webhooks",
    "/v1/webhooks/{id}",
];

/// A world in which every list has an item, and the paths that lead to one.
struct Samples {
    world: World,
    openapi: Value,
    template: String,
    block: String,
    webhook: String,
}

impl Samples {
    async fn new() -> Self {
        let world = World::start().await;
        let job = samples::job(200, [1, 2]);
        let template = job.template_hash().to_string();
        world.commit(samples::accepted("alice", job)).await;
        world.commit(samples::rejected("alice")).await;
        world.commit(samples::share("alice")).await;
        let token = store::Batch::new(samples::NOW_MS).spend_token(5, u64::MAX >> 1, "a".into());
        world.commit(token).await;
        let (block, batch) = samples::block(1);
        world.commit(batch).await;
        let body = r#"{"url":"http://127.0.0.1:9/","types":"block_found"}"#;
        let created = world.write("POST", "/v1/webhooks", body).await.json();
        let openapi = world.read("/v1/openapi.json").await;
        Self {
            openapi,
            template,
            block: block.to_string(),
            webhook: created["webhook"]["id"].as_str().unwrap().to_owned(),
            world,
        }
    }

    fn path(&self, template: &str) -> String {
        template
            .replace("{template_hash}", &self.template)
            .replace("{block_hash}", &self.block)
            .replace("{id}", if template.contains("webhook") { &self.webhook } else { "1" })
            .replace("{user}", "alice")
            .replace("{event}", "block_found")
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let body = match method {
            "post" => r#"{"url":"http://127.0.0.1:9/"}"#,
            "patch" => r#"{"paused":true}"#,
            _ => "",
        };
        request(self.world.address, &method.to_uppercase(), &self.path(path), &headers, body).await
    }

    /// Asserts that a value is what a schema says; fields that it does not name are too many.
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/components/schemas/");
            let named = &self.openapi["components"]["schemas"][name];
            assert!(named.is_object(), "{at}: {name} is not described");
            return self.check(named, value, at);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &&Value| self.fits(choice, value);
            let count = choices.iter().filter(fits).count();
            return assert_eq!(count, 1, "{at}: {value} fits {count} of {schema}");
        }
        if let Some(parts) = schema["allOf"].as_array() {
            // Together they describe the fields.
            let mut all = serde_json::Map::new();
            parts.iter().for_each(|part| self.gather(part, &mut all));
            for (field, value) in value.as_object().unwrap() {
                let described = all.get(field).unwrap_or_else(|| panic!("{at}.{field} is unknown"));
                self.check(described, value, &format!("{at}.{field}"));
            }
            return;
        }
        if let Some(values) = schema["enum"].as_array() {
            return assert!(values.contains(value), "{at}: {value} is none of {values:?}");
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = types.contains(&kind) || (kind == "integer" && types.contains(&"number"));
        assert!(fits, "{at}: {value} is {kind}, not {types:?}");
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}[{index}]"));
        }
        if let (Some(fields), Some(value)) = (schema["properties"].as_object(), value.as_object()) {
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(value.contains_key(required.as_str().unwrap()), "{at}: no {required}");
            }
            for (field, value) in value {
                let described =
                    fields.get(field).unwrap_or_else(|| panic!("{at}.{field} is not described"));
                self.check(described, value, &format!("{at}.{field}"));
            }
        }
    }

    fn gather(&self, schema: &Value, all: &mut serde_json::Map<String, Value>) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/components/schemas/");
            return self.gather(&self.openapi["components"]["schemas"][name], all);
        }
        all.extend(schema["properties"].as_object().unwrap().clone());
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let check = || self.check(schema, value, "");
        // Quietly: what does not fit one choice may fit another.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let fits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok();
        std::panic::set_hook(hook);
        fits
    }
}

fn described(answer: &Answer, operation: &Value, what: &str) -> Value {
    let responses = &operation["responses"];
    let status = answer.status.to_string();
    let response =
        if responses[&status].is_object() { &responses[&status] } else { &responses["default"] };
    assert!(response.is_object(), "{what}: {status} is not described");
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{what}: a body that is not described");
        return Value::Null;
    };
    let found = answer.header("content-type").unwrap().split(';').next().unwrap();
    let media = content.get(found).unwrap_or_else(|| panic!("{what}: {found} is not described"));
    media["schema"].clone()
}

#[tokio::test]
async fn what_was_promised_is_described() {
    let samples = Samples::new().await;
    let paths: Vec<_> = samples.openapi["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, PATHS);
    assert!(samples.openapi["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test]
async fn every_described_route_answers_as_described() {
    let samples = Samples::new().await;
    let mut operations = 0;
    for (path, methods) in samples.openapi["paths"].as_object().unwrap() {
        let methods: Vec<_> = methods.as_object().unwrap().iter().collect();
        // A webhook is deleted last.
        let (last, first): (Vec<_>, Vec<_>) =
            methods.into_iter().partition(|(method, _)| *method == "delete");
        for (method, operation) in first.into_iter().chain(last) {
            let what = format!("{method} {path}");
            operations += 1;
            for field in ["summary", "operationId"] {
                assert!(!operation[field].as_str().unwrap().is_empty(), "{what}: no {field}");
            }
            assert_eq!(operation["security"].is_array(), method != "get", "{what}");
            if path == "/v1/events/stream" {
                let mut sse = Sse::open(samples.world.address, path, None).await;
                assert_eq!(sse.status, 200);
                assert!(sse.next().await.is_some());
                continue;
            }
            let answer = samples.ask(method, path).await;
            assert!((200..300).contains(&answer.status), "{what}: {}", answer.text());
            let schema = described(&answer, operation, &what);
            if !answer.body.is_empty() && schema["type"] != "string" {
                samples.check(&schema, &answer.json(), &what);
            }
        }
    }
    assert_eq!(operations, PATHS.len() + 3);
}

#[tokio::test]
async fn errors_look_as_described() {
    let samples = Samples::new().await;
    let schema = &samples.openapi["components"]["schemas"]["Problem"];
    for path in ["/v1/events?after=x", "/v1/events?after=00000000000000ff-1", "/v1/blocks/x", "/x"]
    {
        let answer = samples.world.get(path).await;
        answer.problem();
        samples.check(schema, &answer.json(), path);
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let samples = Samples::new().await;
    let answer = samples.world.get("/docs").await;
    assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = answer.text();
    for path in PATHS {
        assert!(page.contains(path), "{path} is not on the page");
    }
    for foreign in ["<script", "src=", "href=\"http", "url(", "@import", "<link"] {
        assert!(!page.contains(foreign), "{foreign} is on the page");
    }
    // Every problem leads here.
    let problem = samples.world.get("/x").await.json();
    let anchor = problem["type"].as_str().unwrap().trim_start_matches("/docs#").to_owned();
    assert!(page.contains(&format!("id=\"{anchor}\"")), "{anchor}");
    assert_eq!(samples.world.get("/").await.header("location"), Some("/docs"));
}
