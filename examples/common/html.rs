//! A report page: one HTML file with everything in it, no scripts, readable without a network.

use std::fmt::Write;

use crate::svg::escape;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8885; --dim: #777; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.sub { color: var(--dim); margin-top: .2rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem 1.2rem; }
dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } .wide { overflow-x: auto; } svg { max-width: 100%; height: auto; border-radius: 4px; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); border-radius: 4px; }
";

/// A page in the making.
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a heading and a line under it.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let title = escape(title);
        let body = format!("<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n", escape(subtitle));
        Page { title, body }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Named figures.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) {
        self.body.push_str("<dl>\n");
        for (name, value) in facts {
            let _ = writeln!(self.body, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value));
        }
        self.body.push_str("</dl>\n");
    }

    /// A table.
    pub fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        self.body.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        head.iter().for_each(|h| {
            let _ = write!(self.body, "<th scope=\"col\">{}</th>", escape(h));
        });
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|c| {
                let _ = write!(self.body, "<td>{}</td>", escape(c));
            });
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// Text as it is, in a fixed-width font.
    pub fn code(&mut self, text: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escape(text));
    }

    /// A picture made with [`Svg`](crate::svg::Svg).
    pub fn picture(&mut self, svg: &str) {
        let _ = writeln!(self.body, "<div class=\"wide\">{svg}</div>");
    }

    /// The whole document.
    pub fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n<body>\n{}\
             </body></html>\n",
            self.title, self.body
        )
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_is_escaped_and_inside() {
        let mut page = super::Page::new("a<b", "c&d");
        page.facts([("<n>", "<v>".to_owned())]);
        page.table(&["<h>".into()], &[vec!["<c>".into()]]);
        page.code("<x>");
        let text = page.finish();
        for bad in ["<n>", "<v>", "<c>", "<x>", "a<b", "<script", "http://", "https://"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
    }
}
