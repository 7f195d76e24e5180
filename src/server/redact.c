/*
 * redact.c
 *	  Masks the tokens in what goes to the server's log: see redact.h.
 *
 * The hook runs in every process, the postmaster included, and before the first
 * shared memory is there, in critical sections and while memory is short.  So it
 * raises nothing and asks the server for no memory: a message's texts are its
 * own, and are masked in place.  It masks before it calls the hook before it,
 * which therefore sees what the log sees.  So does the client, if the message
 * goes to both.
 */
#include "postgres.h"

#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/guc.h"

#include "core/mask.h"
#include "frame/settings.h"
#include "server/redact.h"

static emit_log_hook_type previous_hook = NULL;

/*
 * Mask a text in place; NULL is none.
 */
static void
mask_text(char *text)
{
	if (text != NULL)
		tr_token_mask(text, strlen(text), text);
}

/*
 * Is the detail of this message a tree of nodes?  debug_print_parse and its kin
 * write it under one of these titles, which are never translated.
 */
static bool
has_nodes(const ErrorData *edata)
{
	static const char *const titles[] = {
		"parse tree:", "raw parse tree:", "rewritten parse tree:", "plan:"};
	size_t i;

	for (i = 0; edata->message != NULL && i < lengthof(titles); i++)
	{
		if (strcmp(edata->message, titles[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Has a message of this level a STATEMENT line?  As the server's log has it, where
 * LOG lies between ERROR and FATAL.
 */
static bool
shows_statement(int elevel)
{
	if (elevel == LOG || elevel == LOG_SERVER_ONLY)
		return log_min_error_statement == LOG || log_min_error_statement <= ERROR;
	if (log_min_error_statement == LOG)
		return elevel >= FATAL;
	return elevel >= log_min_error_statement;
}

/*
 * The STATEMENT line is no part of the message: it shows debug_query_string,
 * which is also the text that is being parsed and run, and so is not for us to
 * write to.  Point it to a masked copy, or leave the line out where there is no
 * memory for one.  The copy stays until another statement needs one.
 */
static void
mask_statement(ErrorData *edata)
{
	static char *copy = NULL;
	size_t len;

	if (edata->hide_stmt || debug_query_string == NULL || debug_query_string == copy ||
		!shows_statement(edata->elevel))
		return;
	free(copy);
	len = strlen(debug_query_string);
	copy = malloc(len + 1);
	if (copy == NULL)
		edata->hide_stmt = true;
	else if (tr_token_mask(debug_query_string, len, copy) != len ||
			 memcmp(copy, debug_query_string, len) != 0)
		debug_query_string = copy;
}

/*
 * The log hook: called for each message that goes to the log.
 */
static void
redact(ErrorData *edata)
{
	if (tr_log_redaction)
	{
		if (has_nodes(edata) && edata->detail != NULL)
			tr_nodes_mask(edata->detail, strlen(edata->detail));
		mask_text(edata->message);
		mask_text(edata->detail);
		mask_text(edata->detail_log);
		mask_text(edata->hint);
		mask_text(edata->context);
		mask_text(edata->internalquery);
		mask_statement(edata);
	}
	if (previous_hook)
		previous_hook(edata);
}

void
tr_redact_install(void)
{
	previous_hook = emit_log_hook;
	emit_log_hook = redact;
}

void
tr_redact_check_order(void)
{
	if (emit_log_hook != redact)
		ereport(LOG,
				(errmsg("another library's log hook sees messages before token_rotation masks the "
						"tokens in them"),
				 errhint("Put token_rotation last in shared_preload_libraries.")));
}
