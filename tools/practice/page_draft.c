/* SPDX-License-Identifier: MIT
 * HTML in the making: templates whose values are escaped unless they say that
 * they are HTML, and the frame that every page has. No page has a script, and
 * none loads anything but our own stylesheet and icon.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>

static void add_bytes(struct pp_draft *draft, const char *text, size_t len)
{
	if (draft->text == NULL || draft->room - draft->len <= len) {
		draft->room = (draft->len + len + 1) * 2;
		draft->text = realloc(draft->text, draft->room);
		if (draft->text == NULL)
			pp_die("out of memory");
	}
	memcpy(draft->text + draft->len, text, len);
	draft->len += len;
	draft->text[draft->len] = '\0';
}

void pp_draft_add(struct pp_draft *draft, const char *text)
{
	add_bytes(draft, text, strlen(text));
}

static void add_value(struct pp_draft *draft, const char *name, size_t len, json_object *values)
{
	const bool html = len > 0 && *name == '=';
	char *key = html ? pp_printf("%.*s", (int)len - 1, name + 1) : pp_printf("%.*s", (int)len, name);
	const char *value = pp_text(values, key, "");
	char *escaped = html ? pp_strdup(value) : pp_html(value);

	pp_draft_add(draft, escaped);
	free(escaped);
	free(key);
}

void pp_draft_fill(struct pp_draft *draft, const char *text, json_object *values)
{
	while (*text != '\0') {
		const size_t plain = strcspn(text, "{");
		size_t len;

		add_bytes(draft, text, plain);
		text += plain;
		if (*text == '\0')
			return;
		len = strcspn(text, "}");
		add_value(draft, text + 1, len - 1, values);
		text += len + (text[len] == '}');
	}
}

json_object *pp_values(const char *name, ...)
{
	json_object *values = json_object_new_object();
	va_list args;

	va_start(args, name);
	while (name != NULL) {
		const char *text = va_arg(args, const char *);

		if (text != NULL)
			json_object_object_add(values, name, json_object_new_string(text));
		name = va_arg(args, const char *);
	}
	va_end(args);
	return values;
}

/* ---- the frame --------------------------------------------------------------------- */

static const char provider_emblem[] = "<path d=\"M24 5 43 16v4H5v-4zM9 23h5v13H9zM21.5 23h5v13h-5zM34 23h5v13h-5z"
				      "M5 38h38v5H5z\"/>";

char *pp_emblem(const char *institution, const char *size)
{
	return pp_printf("<svg class=\"emblem\" viewBox=\"0 0 48 48\" width=\"%s\" height=\"%s\" fill=\"currentColor\" "
			 "aria-hidden=\"true\" focusable=\"false\">%s</svg>",
		size, size, pp_text(pp_institution(institution), "emblem", provider_emblem));
}

static const char
	head[] = "<!doctype html>\n"
		 "<html lang=\"en\">\n"
		 "<head>\n"
		 "<meta charset=\"utf-8\">\n"
		 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		 "<meta name=\"color-scheme\" content=\"light dark\">\n"
		 "<title>{window}</title>\n"
		 "<link rel=\"icon\" type=\"image/svg+xml\" href=\"/bank/icon/{name}.svg\">\n"
		 "<link rel=\"stylesheet\" href=\"/style.css\">\n"
		 "</head>\n"
		 "<body class=\"{shape} bank-{name}\">\n"
		 "<header class=\"brand\">\n"
		 "<p class=\"sign\"><span class=\"logo\">{=emblem}</span><span class=\"name\">{bank}</span></p>\n"
		 "<p class=\"motto\">{motto}</p>\n";
static const char middle[] = "<p class=\"practice\">Practice bank &ndash; nothing here is real</p>\n"
			     "</header>\n"
			     "<main>\n";
static const char foot[] = "</main>\n</body>\n</html>\n";

/* Where one is on the way to a link. */
static void add_steps(struct pp_draft *page, int step)
{
	static const char *const names[] = { "Sign in", "Choose accounts", "Allow access" };
	int i;

	if (step == 0)
		return;
	pp_draft_add(page, "<ol class=\"steps\" aria-label=\"Steps\">\n");
	for (i = 1; i <= 3; i++) {
		pp_draft_add(page,
			i < step            ? "<li class=\"done\">"
				: i == step ? "<li aria-current=\"step\">"
					    : "<li>");
		pp_draft_add(page, "<span>");
		pp_draft_add(page, names[i - 1]);
		pp_draft_add(page, "</span>");
		if (i < step)
			pp_draft_add(page, "<span class=\"unseen\"> (done)</span>");
		pp_draft_add(page, "</li>\n");
	}
	pp_draft_add(page, "</ol>\n");
}

/* form-action is left out: browsers apply it to the redirect that follows the last form, too. */
static void set_headers(struct pp_answer *answer)
{
	pp_answer_header(answer, "content-type", "text/html; charset=utf-8");
	pp_answer_header(answer, "content-security-policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'");
	pp_answer_header(answer, "referrer-policy", "no-referrer");
	pp_answer_header(answer, "x-frame-options", "DENY");
	pp_answer_header(answer, "x-content-type-options", "nosniff");
	pp_answer_header(answer, "cache-control", "no-store");
}

void pp_page_answer(struct pp_answer *answer, int status, const struct pp_frame *frame, struct pp_draft *main)
{
	json_object *institution = pp_institution(frame->institution);
	const char *bank = institution != NULL || frame->step > 0 ? pp_institution_title(frame->institution)
								  : "Practice Provider";
	char *emblem = pp_emblem(frame->institution, "32");
	char *window = pp_printf("%s \xe2\x80\x93 %s", frame->title, bank);
	json_object *values = pp_values("window", window, "name", institution != NULL ? frame->institution : "none",
		"shape", frame->wide ? "wide" : "split", "emblem", emblem, "bank", bank, "motto",
		pp_text(institution, "motto", "A bank to practise on."), NULL);
	struct pp_draft page = { NULL, 0, 0 };

	pp_draft_fill(&page, head, values);
	add_steps(&page, frame->step);
	pp_draft_add(&page, middle);
	pp_draft_add(&page, main->text != NULL ? main->text : "");
	pp_draft_add(&page, foot);
	pp_answer_html(answer, status, page.text);
	set_headers(answer);
	json_object_put(values);
	free(window);
	free(emblem);
	free(main->text);
	*main = (struct pp_draft){ NULL, 0, 0 };
}

void pp_page_error(struct pp_answer *answer, int status, const char *title, const char *text)
{
	const struct pp_frame frame = { NULL, title, 0, false };
	json_object *values = pp_values("title", title, "text", text, NULL);
	struct pp_draft main = { NULL, 0, 0 };

	pp_draft_fill(&main, "<h1>{title}</h1>\n<p class=\"lead\">{text}</p>\n", values);
	json_object_put(values);
	pp_page_answer(answer, status, &frame, &main);
}
