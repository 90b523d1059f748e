//! The OpenAPI description as a page: no scripts, nothing from elsewhere.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::problem::Kind;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#1a1a1a;background:#fff}h1{margin-bottom:0}h2{margin-top:2.5rem;\
text-transform:capitalize}details{border:1px solid #ccc;border-radius:6px;margin:.5rem 0;\
padding:.4rem .8rem}summary{cursor:pointer}code{font:14px ui-monospace,monospace}\
.method{display:inline-block;min-width:4.5rem;font-weight:700}.lock{color:#a40;font-size:.85rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;\
padding:.25rem .75rem .25rem 0;border-top:1px solid #ddd}td:first-child{white-space:nowrap}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}details{border-color:#444}\
th,td{border-color:#333}a{color:#8bf}.lock{color:#fa5}}";

/// Writes what may hold anything into HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            _ => f.write_char(letter),
        })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Escaped<'a> {
    Escaped(value.get(key).and_then(Value::as_str).unwrap_or_default())
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// The page.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub(crate) fn render(openapi: &Value) -> Result<String, fmt::Error> {
    let mut page = String::new();
    let info = openapi.get("info").unwrap_or(&Value::Null);
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>Version {version}. <a href=\"/v1/openapi.json\">OpenAPI</a> · \
         <a href=\"#problems\">errors</a> · <a href=\"#schemas\">schemas</a></p><p>{about}</p>",
        title = text(info, "title"),
        version = text(info, "version"),
        about = text(info, "description"),
    )?;
    let tags = openapi.get("tags").and_then(Value::as_array).into_iter().flatten();
    for tag in tags {
        let name = tag.get("name").and_then(Value::as_str).unwrap_or_default();
        let about = text(tag, "description");
        write!(page, "<h2 id=\"{0}\">{0}</h2><p>{about}</p>", Escaped(name))?;
        for (path, methods) in items(openapi, "paths") {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let tags = operation.get("tags").and_then(Value::as_array);
                if tags.is_some_and(|tags| tags.iter().any(|tag| tag == name)) {
                    endpoint(&mut page, path, method, operation)?;
                }
            }
        }
    }
    problems(&mut page)?;
    schemas(&mut page, openapi)?;
    page.push_str("</html>");
    Ok(page)
}

fn endpoint(page: &mut String, path: &str, method: &str, operation: &Value) -> fmt::Result {
    let lock = if operation.get("security").is_some() {
        " <span class=\"lock\">needs the token</span>"
    } else {
        ""
    };
    write!(
        page,
        "<details><summary><code><span class=\"method\">{}</span>{}</code> — {}{lock}</summary>\
         <p>{}</p>",
        method.to_uppercase(),
        Escaped(path),
        text(operation, "summary"),
        text(operation, "description"),
    )?;
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        page.push_str("<table><tr><th>Parameter<th>In<th>Type<th>Meaning");
        for parameter in parameters {
            write!(
                page,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
                text(parameter, "name"),
                text(parameter, "in"),
                kind(parameter.get("schema").unwrap_or(&Value::Null)),
                text(parameter, "description"),
            )?;
        }
        page.push_str("</table>");
    }
    if let Some(body) = operation.get("requestBody") {
        write!(page, "<p>Body: {}</p>", media(body))?;
    }
    page.push_str("<table><tr><th>Status<th>Body<th>Meaning");
    for (status, response) in items(operation, "responses") {
        let about = text(response, "description");
        write!(page, "<tr><td>{}<td>{}<td>{about}", Escaped(status), media(response))?;
    }
    page.push_str("</table></details>");
    Ok(())
}

/// Media types with what they hold.
fn media(body: &Value) -> String {
    let types: Vec<_> = items(body, "content")
        .map(|(name, media)| {
            let schema = kind(media.get("schema").unwrap_or(&Value::Null));
            format!("<code>{}</code> {schema}", Escaped(name))
        })
        .collect();
    types.join("<br>")
}

/// A schema in a few words, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = Escaped(name.rsplit('/').next().unwrap_or_default()).to_string();
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema.get(list).and_then(Value::as_array) {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values = values.iter().map(|value| Escaped(&value.to_string()).to_string());
        return values.collect::<Vec<_>>().join(", ");
    }
    match schema.get("type") {
        Some(Value::String(name)) if name == "array" => {
            format!("list of {}", kind(schema.get("items").unwrap_or(&Value::Null)))
        }
        Some(Value::String(name)) => Escaped(name).to_string(),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            Escaped(&names.collect::<Vec<_>>().join(" or ")).to_string()
        }
        _ => "anything".to_owned(),
    }
}

fn problems(page: &mut String) -> fmt::Result {
    page.push_str(
        "<h2 id=\"problems\">Errors</h2><p>Every error is an <code>application/problem+json\
         </code> (RFC 9457); its <code>type</code> leads here.</p><table>",
    );
    for problem in Kind::ALL {
        write!(
            page,
            "<tr id=\"problem-{name}\"><td><code>{name}</code><td>{}<td>{}",
            problem.status().as_u16(),
            Escaped(problem.title()),
            name = problem.name(),
        )?;
    }
    page.push_str("</table>");
    Ok(())
}

fn schemas(page: &mut String, openapi: &Value) -> fmt::Result {
    page.push_str("<h2 id=\"schemas\">Schemas</h2>");
    let components = openapi.get("components").unwrap_or(&Value::Null);
    for (name, schema) in items(components, "schemas") {
        let about = text(schema, "description");
        let name = Escaped(name);
        write!(page, "<h3 id=\"schema-{name}\">{name}</h3><p>{about}</p>")?;
        if schema.get("properties").is_none() {
            write!(page, "<p>{}</p>", kind(schema))?;
            continue;
        }
        page.push_str("<table>");
        for (field, schema) in items(schema, "properties") {
            let about = text(schema, "description");
            let kind = kind(schema);
            write!(page, "<tr><td><code>{}</code><td>{kind}<td>{about}", Escaped(field))?;
        }
        page.push_str("</table>");
    }
    Ok(())
}
