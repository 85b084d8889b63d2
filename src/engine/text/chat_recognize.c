/*
 * Which chat format is this template?  Templates are Jinja programs of the model file; they are searched for the literals that tell
 * formats apart, never run (DESIGN D7, CVE-2024-34359).
 */
#include <stdio.h>

#include "engine/text/chat.h"
#include "engine/text/chat_formats.h"

static bool has(const char *text, const char *what)
{
    return strstr(text, what) != NULL;
}

/* Formats that write turns as <|user|> ... : they differ in what follows a user's text. */
static const char *recognize_bars(const char *t)
{
    if (has(t, "<|end|>")) {
        bool lines = has(t, "|>' + '\n'") || has(t, "|>' + '\\n'") || has(t, "<|end|>\n") || has(t, "<|end|>\\n") || has(t, "<|user|>\n") ||
                     has(t, "<|user|>\\n");
        return lines ? "phi3" : "phi4-mini";
    }
    const char *user = strstr(t, "<|user|>");
    if (user == NULL)
        return NULL;
    const char *close = strstr(user, "}}"), *eos = strstr(user, "eos_token");
    return eos != NULL && close != NULL && eos < close ? "zephyr" : "olmo2";
}

const char *slm_chat_recognize(const char *t)
{
    if (t == NULL || t[0] == '\0')
        return NULL;
    if (has(t, "<|im_start|>")) {
        if (has(t, "<|im_sep|>"))
            return "phi4";
        if (has(t, "Reasoning Mode"))
            return "smollm3";
        if (has(t, "enable_thinking"))
            return "qwen3";
        if (has(t, "You are Qwen"))
            return "qwen2.5";
        if (has(t, "named SmolLM"))
            return "smollm";
        return has(t, "system\nYou are a helpful assistant") || has(t, "system\\nYou are a helpful assistant") ? "qwen2" : "chatml";
    }
    if (has(t, "<|start_header_id|>"))
        return has(t, "Cutting Knowledge Date") ? "llama3.1" : "llama3";
    if (has(t, "<start_of_turn>"))
        return "gemma";
    if (has(t, "<|turn>"))
        return has(t, "'<|channel>thought\\n<channel|>'") || has(t, "'<|channel>thought\n<channel|>'") ? "gemma4-thought" : "gemma4";
    if (has(t, "<|start_of_role|>"))
        return "granite";
    if (has(t, "[SYSTEM_PROMPT]"))
        return "mistral-v7";
    if (has(t, "[INST]"))
        return has(t, "<<SYS>>") ? "llama2" : has(t, " [/INST]") ? "mistral-v1" : "mistral-v3";
    return has(t, "<|assistant|>") || has(t, "'<|' + ") ? recognize_bars(t) : NULL;
}

void slm_chat_template_system(const slm_chat_format *format, const char *t, char *out, size_t size)
{
    static const char *const heads[] = {"<|im_start|>system\n", "<|im_start|>system\\n"};
    out[0] = '\0';
    if (format == NULL)
        return;
    if (format->system != NULL)
        snprintf(out, size, "%s", format->system);
    if (t == NULL || format->turn[0].head == NULL || strcmp(format->turn[0].head, heads[0]) != 0)
        return;
    for (size_t i = 0; i < 2; i++) {
        for (const char *at = strstr(t, heads[i]); at != NULL; at = strstr(at + 1, heads[i])) {
            const char *text = at + strlen(heads[i]), *end = strstr(text, "<|im_end|>");
            size_t n = end != NULL ? (size_t) (end - text) : 0;
            if (n == 0 || n >= size || strcspn(text, "'\"{}\\") < n || slm_utf8_valid_prefix(text, n) < n)
                continue;
            memcpy(out, text, n);
            out[n] = '\0';
            return;
        }
    }
}

bool slm_chat_is_control_text(const char *text, size_t n)
{
    static const char *const known[] = {"<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
        "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>",
        "</tool_response>"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i]) == n && memcmp(known[i], text, n) == 0)
            return true;
    if (n < 5)
        return false;
    if (memcmp(text, "<|", 2) == 0 && memcmp(text + n - 2, "|>", 2) == 0)
        return true;
    return n >= 9 && memcmp(text, "<\xEF\xBD\x9C", 4) == 0 && memcmp(text + n - 4, "\xEF\xBD\x9C>", 4) == 0;
}
