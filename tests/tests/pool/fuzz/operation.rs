//! What the interface says of itself: operations, their parameters and bodies, and its problems.

use jds_tests::pool::Pool;
use serde_json::Value;

/// The description of a running server.
#[derive(Debug)]
pub(super) struct Description {
    openapi: Value,
    /// `type` of every problem that there is.
    pub(super) problems: Vec<String>,
}

/// One method of one path.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: String,
    pub(super) path: String,
    /// Names of its parameters in the query.
    pub(super) query: Vec<String>,
    /// Names of its headers.
    pub(super) headers: Vec<String>,
    /// Media types of its body, each with its schema.
    pub(super) bodies: Vec<(String, Value)>,
    /// Media types of its good answers.
    pub(super) answers: Vec<String>,
}

impl Operation {
    pub(super) fn takes_body(&self) -> bool {
        !self.bodies.is_empty()
    }
}

impl Description {
    pub(super) fn of(pool: &mut Pool) -> Self {
        let openapi = pool.get("/v1/openapi.json").json();
        let page = pool.get("/docs").body;
        let problems = page.split("id=\"problem-").skip(1);
        let name = |text: &str| format!("/docs#problem-{}", text.split('"').next().unwrap());
        let problems: Vec<_> = problems.map(name).collect();
        assert!(problems.len() > 10, "problems on the page: {problems:?}");
        Self { openapi, problems }
    }

    /// Every operation.
    pub(super) fn operations(&self) -> Vec<Operation> {
        let paths = self.openapi["paths"].as_object().unwrap().iter();
        let all = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| operation_of(path, method, operation))
        });
        all.collect()
    }

    /// What a schema stands for, without references.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => {
                let name = name.rsplit('/').next().unwrap();
                self.resolve(&self.openapi["components"]["schemas"][name])
            }
            None => schema,
        }
    }
}

fn operation_of(path: &str, method: &str, operation: &Value) -> Operation {
    assert!(!path.contains('{'), "{path}: parameters in the path are not made up yet");
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let named = |place: &str| {
        let of_place = parameters.iter().filter(|parameter| parameter["in"] == place);
        of_place.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    let content = |content: &Value| {
        let types = content.as_object().cloned().unwrap_or_default();
        types.into_iter().map(|(kind, media)| (kind, media["schema"].clone())).collect::<Vec<_>>()
    };
    let answers = content(&operation["responses"]["200"]["content"]);
    Operation {
        method: method.to_uppercase(),
        path: path.to_owned(),
        query: named("query"),
        headers: named("header"),
        bodies: content(&operation["requestBody"]["content"]),
        answers: answers.into_iter().map(|(kind, _)| kind).collect(),
    }
}
