/* SPDX-License-Identifier: MIT
 * The banks behind the practice provider. All of them are invented; what they do
 * with tokens was seen at real ones. `habits` are settings (settings.c) that hold
 * for that bank when the setting "habits" is on.
 *
 * title, kind, motto, about: for people. tint: behind white text; glow: the same
 * colour for text on a dark page. emblem: SVG within 48 by 48, drawn in
 * currentColor. question: asked after the password. users: login -> name; any
 * other login is a customer too.
 */
#include "pages.h"

#include <string.h>

/* json-c reads single quotes where it is not strict. */
static const char table[] =
	"{"
	"'mikomo': {"
	"  'title': 'Mikomo Bank', 'kind': 'bank', 'motto': 'Small steps, every day.',"
	"  'about': 'Akoya’s manner: an id_token of 24 hours is the bearer, each refresh brings a new refresh token,"
	" and the old one is refused from then on.',"
	"  'tint': '#0b5f59', 'glow': '#72d5c7',"
	"  'emblem': '<path d=\"M6 36 18 14l7 12 5-8 12 18z\"/><circle cx=\"35\" cy=\"12\" r=\"4\"/>',"
	"  'users': { 'mikomo_1': 'Mina Komori', 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'dex', 'reuse_window_ms': 0, 'id_token_ttl': 86399, 'access_ttl': 86399,"
	"    'access_token': false, 'id_token': 'always',"
	"    'auth': { 'authorization_code': 'basic', 'refresh_token': 'post', 'revoke': 'post' } }"
	"},"
	"'heronmere': {"
	"  'title': 'Heronmere Trust', 'kind': 'bank', 'motto': 'Patience pays.',"
	"  'about': 'Bearers last 15 minutes, and a refresh token that comes a second time ends the whole link.',"
	"  'tint': '#1f4282', 'glow': '#a0c0f7',"
	"  'emblem': '<path d=\"M12 8c9 0 14 5 14 12 0 5-4 7-4 12h-4c0-6 4-8 4-12 0-4-3-7-7-7l-7-1z\"/>"
	"<path d=\"M24 18c8 0 14 5 16 14H24z\"/><path d=\"M6 36h36v4H6z\"/>',"
	"  'users': { 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'hydra', 'reuse_window_ms': 0, 'id_token_ttl': 900, 'access_ttl': 900,"
	"    'access_token': true, 'id_token': 'always' }"
	"},"
	"'lantern': {"
	"  'title': 'Lantern Credit Union', 'kind': 'credit union', 'motto': 'A light for late hours.',"
	"  'about': 'Has a grace period: a spent refresh token is taken once more for 60 seconds, and after that it ends"
	" the link.',"
	"  'tint': '#86480a', 'glow': '#f3bb6c',"
	"  'emblem': '<path d=\"M18 6h12v4H18zM14 12h20l4 22H10zM14 36h20v5H14z\"/>',"
	"  'users': { 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'hydra', 'reuse_window_ms': 60000, 'id_token_ttl': 3600, 'access_ttl': 3600,"
	"    'access_token': true, 'id_token': 'always' }"
	"},"
	"'oldmill': {"
	"  'title': 'Old Mill Savings', 'kind': 'savings bank', 'motto': 'Slow and steady since 1802.',"
	"  'about': 'Never rotates: the first refresh token is good for ever, and answers to a refresh do not repeat it.',"
	"  'tint': '#3b5c2a', 'glow': '#add68e',"
	"  'emblem': '<path d=\"M24 24 16 6h10zM24 24l18-8v10zM24 24l8 18H22zM24 24 6 32V22z\"/>',"
	"  'users': { 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'none', 'id_token_ttl': 3600, 'access_ttl': 3600, 'access_token': true,"
	"    'id_token': 'always' }"
	"},"
	"'brevia': {"
	"  'title': 'Brevia', 'kind': 'bank', 'motto': 'Brief by design.',"
	"  'about': 'Bearers last 5 minutes, and a refresh token that lies idle for 15 minutes is over: refresh ahead of"
	" time, or ask the customer again.',"
	"  'tint': '#6d2b74', 'glow': '#e2abe8',"
	"  'emblem': '<path d=\"M10 6h28v4c0 6-5 10-10 14 5 4 10 8 10 14v4H10v-4c0-6 5-10 10-14-5-4-10-8-10-14z\"/>',"
	"  'users': { 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'dex', 'reuse_window_ms': 0, 'id_token_ttl': 300, 'access_ttl': 300,"
	"    'refresh_idle_ttl': 900, 'access_token': false, 'id_token': 'always' }"
	"},"
	"'quillmark': {"
	"  'title': 'Quillmark & Daughters', 'kind': 'private bank', 'motto': 'Your word, kept.',"
	"  'about': 'Asks one question more at sign-in, and gives the same refresh token again at each refresh.',"
	"  'tint': '#7c2034', 'glow': '#f2abba',"
	"  'emblem': '<path d=\"M40 6C24 8 14 16 12 30l-4 12 3 1 4-9c14 0 22-10 25-28zM17 29c4-8 9-13 15-17-5 6-9 11-13 17z\""
	" fill-rule=\"evenodd\"/>',"
	"  'question': 'What do you call the place where you spent your childhood summers?',"
	"  'users': { 'ana': 'Ana Silva', 'ben': 'Ben Okafor', 'chris': 'Chris Lindqvist' },"
	"  'habits': { 'rotation': 'same', 'id_token_ttl': 1800, 'access_ttl': 1800, 'access_token': true,"
	"    'id_token': 'always' }"
	"}"
	"}";

json_object *pp_institutions(void)
{
	static json_object *institutions;

	if (institutions == NULL)
		institutions = json_tokener_parse(table);
	if (institutions == NULL)
		pp_die("the table of institutions can't be read");
	return institutions;
}

json_object *pp_institution(const char *name)
{
	return name != NULL ? pp_member(pp_institutions(), name) : NULL;
}

const char *pp_institution_title(const char *name)
{
	return pp_text(pp_institution(name), "title", "Practice Bank");
}
