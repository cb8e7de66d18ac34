/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mark_names.h"
#include "base/paths.h"

static const char *const help_hint = "See pmem-state --help.";

static int usage(struct problem *p, const char *what, const char *detail)
{
    return problem_set(p, EXIT_USAGE, 0, detail, help_hint, "%s", what);
}

/* Adds NAME or NAME=PATH. Error messages name `from` as its origin. */
static int add_item(struct options *o, const char *text, const char *from, struct problem *p)
{
    struct option_item *it = &o->items[o->item_count];
    size_t name = strcspn(text, "=");
    if (o->item_count == MAX_ITEMS)
        return problem_set(p, EXIT_USAGE, 0, "an image holds at most 256 items", NULL, "Reading the items in %s", from);
    if (name > MAX_ITEM_NAME)
        return problem_set(p, EXIT_USAGE, 0, "the item name is not valid: it may have at most 64 bytes", NULL,
                           "Reading '%s' in %s", text, from);
    memcpy(it->name, text, name);
    it->name[name] = 0;
    if (!item_name_ok(it->name))
        return problem_set(p, EXIT_USAGE, 0,
                           "the item name is not valid: it may contain letters, digits, '.', '_' and '-', and must start with a "
                           "letter, a digit or '_'",
                           "Write NAME=PATH.", "Reading '%s' in %s", text, from);
    for (int i = 0; i < o->item_count; i++)
        if (strcmp(o->items[i].name, it->name) == 0)
            return problem_set(p, EXIT_USAGE, 0, "another item has the same name", NULL, "Reading '%s' in %s", text, from);
    it->path = NULL;
    if (text[name] == '=') {
        it->path = strdup(text + name + 1);
        if (!it->path)
            return problem_set(p, EXIT_SYSTEM, ENOMEM, NULL, NULL, "Reading '%s' in %s", text, from);
        o->item_count++;
        for (size_t n = strlen(it->path); n > 1 && it->path[n - 1] == '/'; n--)
            it->path[n - 1] = 0;
        if (!item_path_ok(it->path))
            return problem_set(p, EXIT_USAGE, 0, "the path must be absolute, without '.', '..' or empty components, and not / itself",
                               NULL, "Reading '%s' in %s", text, from);
        for (int i = 0; i < o->item_count - 1; i++)
            if (o->items[i].path && paths_overlap(o->items[i].path, it->path))
                return problem_set(p, EXIT_USAGE, 0, "the path lies inside the path of another item, or contains it", NULL,
                                   "Reading '%s' in %s", text, from);
    } else {
        o->item_count++;
    }
    return 0;
}

static int read_config(struct options *o, const char *path, struct problem *p)
{
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    ssize_t n;
    FILE *f = fopen(path, "re");
    if (!f)
        return problem_set(p, EXIT_SYSTEM, errno, NULL, "The file must exist, and contain one NAME=PATH on each line.",
                           "Reading the item list %s", path);
    while (rc == 0 && (n = getline(&line, &room, f)) > 0) {
        if (line[n - 1] == '\n')
            line[--n] = 0;
        if ((size_t)n != strlen(line))
            rc = problem_set(p, EXIT_USAGE, 0, "the file contains a NUL byte", NULL, "Reading the item list %s", path);
        else if (n > 0 && line[0] != '#')
            rc = add_item(o, line, path, p);
    }
    if (rc == 0 && ferror(f))
        rc = problem_set(p, EXIT_SYSTEM, errno, NULL, NULL, "Reading the item list %s", path);
    free(line);
    fclose(f);
    return rc;
}

/* A plain number, or one with K, M, G or T (powers of 1024). */
static int parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno || end == text || *text == '-')
        return 0;
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if ((*end && (!unit || end[1])) || v > (UINT64_MAX >> 1) >> shift)
        return 0;
    *out = (uint64_t)v << shift;
    return 1;
}

static int parse_threads(const char *text, int *out)
{
    char *end;
    long v = strtol(text, &end, 10);
    *out = (int)v;
    return end != text && *end == 0 && v >= 1 && v <= MAX_THREADS;
}

static int parse_seconds(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == 0 && *out > 0 && *out <= 86400;
}

static int find_verb(struct options *o, const char *word)
{
    static const char *const names[] = {"save", "restore", "plan", "compare", "verify", "info", "invalidate",
                                        "mark", "cycles", "prepare", "help"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(word, names[i]) == 0) {
            o->verb = (enum verb)i;
            o->verb_name = names[i];
            return 1;
        }
    return 0;
}

/* NAME=CYCLES */
static int add_mark(struct options *o, const char *text, struct problem *p)
{
    char name[32] = "", *end = name;
    size_t n = strcspn(text, "=");
    struct option_mark *m = &o->marks[o->mark_count];
    if (o->mark_count == MAX_OPTION_MARKS)
        return usage(p, "Reading --mark", "it can be given at most 16 times");
    if (n < sizeof name)
        memcpy(name, text, n);
    m->id = mark_id(name);
    errno = 0;
    m->cycles = text[n] ? strtoull(text + n + 1, &end, 10) : 0;
    if (!m->id || !text[n] || errno || end == text + n + 1 || *end || text[n + 1] == '-')
        return problem_set(p, EXIT_USAGE, 0, "the value must be NAME=CYCLES: a known mark and a number", help_hint,
                           "Reading --mark %s", text);
    o->mark_count++;
    return 0;
}

/* Returns the value of --name VALUE or --name=VALUE if argv[*i] is that option, else NULL. Sets
 * *missing if the option lacks a value. */
static const char *value_of(const char *name, int argc, char **argv, int *i, int *missing)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0 || (argv[*i][n] && argv[*i][n] != '='))
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    *missing = 1;
    return NULL;
}

static int one_option(struct options *o, int argc, char **argv, int *i, struct problem *p)
{
    const char *v, *word = argv[*i];
    int missing = 0;
    if (strcmp(word, "--force") == 0)
        o->force = 1;
    else if (strcmp(word, "--json") == 0)
        o->json = 1;
    else if (strcmp(word, "--progress") == 0)
        o->progress = 1;
    else if ((v = value_of("--device", argc, argv, i, &missing)))
        o->device = v;
    else if ((v = value_of("--item", argc, argv, i, &missing)))
        return add_item(o, v, "the command line", p);
    else if ((v = value_of("--config", argc, argv, i, &missing)))
        return read_config(o, v, p);
    else if ((v = value_of("--threads", argc, argv, i, &missing)))
        return parse_threads(v, &o->threads) ? 0 : usage(p, "Reading --threads", "the value must be a number from 1 to 64");
    else if ((v = value_of("--capacity", argc, argv, i, &missing)))
        return parse_bytes(v, &o->capacity)
                   ? 0
                   : usage(p, "Reading --capacity", "the value must be a number of bytes, such as 2147483648 or 2G");
    else if ((v = value_of("--seconds", argc, argv, i, &missing)))
        return parse_seconds(v, &o->seconds) ? 0 : usage(p, "Reading --seconds", "the value must be a number above 0, and at most 86400");
    else if ((v = value_of("--mark", argc, argv, i, &missing)))
        return add_mark(o, v, p);
    else if ((v = value_of("--cycles-per-second", argc, argv, i, &missing)))
        return parse_bytes(v, &o->cycles_per_second) ? 0 : usage(p, "Reading --cycles-per-second", "the value must be a number");
    else if (o->verb == VERB_MARK && !missing && word[0] != '-' && !o->mark)
        o->mark = word;
    else
        return problem_set(p, EXIT_USAGE, 0, missing ? "the option needs a value" : "the option is unknown", help_hint,
                           "Reading the option %s", word);
    return 0;
}

/* Checks which options each verb needs and accepts. */
static int check(const struct options *o, struct problem *p)
{
    int sources = o->verb == VERB_SAVE || o->verb == VERB_PLAN || o->verb == VERB_COMPARE || o->verb == VERB_PREPARE;
    if (o->seconds > 0 && o->verb != VERB_PREPARE)
        return usage(p, "Reading the command line", "only prepare accepts --seconds");
    if (o->verb == VERB_CYCLES)
        return o->device || o->item_count ? usage(p, "Reading the command line", "cycles does not accept a device or items") : 0;
    if (o->verb == VERB_MARK && (!o->mark || !mark_id(o->mark)))
        return usage(p, "Reading the command line", "mark needs the name of a known mark");
    if ((o->mark_count || o->cycles_per_second) && o->verb != VERB_SAVE)
        return usage(p, "Reading the command line", "only save accepts --mark and --cycles-per-second");
    if (o->verb == VERB_PREPARE && o->device)
        return usage(p, "Reading the command line", "prepare does not accept a device");
    if (o->verb == VERB_PLAN ? (o->device != NULL) == (o->capacity != 0) : o->device == NULL && o->verb != VERB_PREPARE)
        return usage(p, "Reading the command line",
                     o->verb == VERB_PLAN ? "plan needs either --device or --capacity" : "--device is missing");
    if (o->capacity && o->verb != VERB_PLAN)
        return usage(p, "Reading the command line", "only plan accepts --capacity");
    if (sources && o->item_count == 0)
        return usage(p, "Reading the command line", "at least one item is needed: --item NAME=PATH, or a --config FILE that lists it");
    if (!sources && o->verb != VERB_RESTORE && o->verb != VERB_VERIFY && o->item_count)
        return usage(p, "Reading the command line", "this verb does not accept items");
    for (int i = 0; i < o->item_count && sources; i++)
        if (!o->items[i].path)
            return problem_set(p, EXIT_USAGE, 0, "the path is missing", "Write NAME=PATH.", "Reading the item '%s'", o->items[i].name);
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, struct problem *p)
{
    memset(o, 0, sizeof *o);
    o->verb_name = "none";
    for (int i = 1; i < argc; i++) /* read first, so that errors are printed as JSON too */
        o->json |= strcmp(argv[i], "--json") == 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--version") == 0) {
            o->verb = argv[i][2] == 'v' ? VERB_VERSION : VERB_HELP;
            return 0;
        }
    if (argc < 2)
        return usage(p, "Reading the command line", "the verb is missing");
    if (!find_verb(o, argv[1]))
        return problem_set(p, EXIT_USAGE, 0, "the verb is unknown", help_hint, "Reading the command line (%s)", argv[1]);
    for (int i = 2; i < argc; i++) {
        int rc = one_option(o, argc, argv, &i, p);
        if (rc)
            return rc;
    }
    return o->verb == VERB_HELP ? 0 : check(o, p);
}

void options_free(struct options *o)
{
    for (int i = 0; i < o->item_count; i++)
        free(o->items[i].path);
}
