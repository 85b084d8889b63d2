/*
 * The chat formats: a table of the literals around each turn, and how a format is recognized in a model file's template.
 *
 * Literals hold the control tokens; they are the only texts encoded with control-token parsing on.  Sources: the chat_template
 * published with each model.  Dates that templates would take from the clock are left at the template's own default or out, so that an
 * answer is a function of its arguments.
 */
#include "engine/text/chat_formats.h"

#include "engine/text/chat.h"

#include <stdio.h>
#include <string.h>

#define CHATML                                                                                                  \
    .turn = {{.head = "<|im_start|>system\n", .tail = "<|im_end|>\n"}, {.head = "<|im_start|>user\n", .tail = "<|im_end|>\n"}, \
             {.head = "<|im_start|>assistant\n", .tail = "<|im_end|>\n"}},                                          \
    .ends = {"<|im_end|>"}
#define LLAMA3(system_extra)                                                                                          \
    .turn = {{.head = "<|start_header_id|>system<|end_header_id|>\n\n" system_extra, .tail = "<|eot_id|>"},                   \
             {.head = "<|start_header_id|>user<|end_header_id|>\n\n", .tail = "<|eot_id|>"},                                  \
             {.head = "<|start_header_id|>assistant<|end_header_id|>\n\n", .tail = "<|eot_id|>"}},                              \
    .answer = "<|start_header_id|>assistant<|end_header_id|>\n\n", .ends = {"<|eot_id|>", "<|eom_id|>"}, \
    .flags = SLM_CHAT_BOS | SLM_CHAT_TRIM
#define GEMMA4                                                                                                                          \
    .turn = {{.head = "<|turn>system\n", .tail = "<turn|>\n"}, {.head = "<|turn>user\n", .tail = "<turn|>\n"},                           \
             {.head = "<|turn>model\n", .tail = "<turn|>\n"}},                                                                         \
    .ends = {"<turn|>"}, .flags = SLM_CHAT_BOS | SLM_CHAT_TRIM

static const slm_chat_format formats[] = {
    {.name = "raw", .turn = {{.after = "\n\n"}, {.after = "\n\n"}, {.after = "\n\n"}}},
    {.name = "chatml", CHATML, .answer = "<|im_start|>assistant\n"},
    {.name = "smollm", CHATML, .answer = "<|im_start|>assistant\n",
     .system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {.name = "qwen2", CHATML, .answer = "<|im_start|>assistant\n", .system = "You are a helpful assistant."},
    {.name = "qwen2.5", CHATML, .answer = "<|im_start|>assistant\n",
     .system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {.name = "qwen3", CHATML, .answer = "<|im_start|>assistant\n<think>\n\n</think>\n\n"},
    {.name = "smollm3", CHATML, .answer = "<|im_start|>assistant\n<think>\n\n</think>\n"},
    {.name = "phi4",
     .turn = {{.head = "<|im_start|>system<|im_sep|>", .tail = "<|im_end|>"}, {.head = "<|im_start|>user<|im_sep|>", .tail = "<|im_end|>"},
              {.head = "<|im_start|>assistant<|im_sep|>", .tail = "<|im_end|>"}},
     .answer = "<|im_start|>assistant<|im_sep|>", .ends = {"<|im_end|>"}},
    {.name = "llama3", LLAMA3("")},
    {.name = "llama3.1", LLAMA3("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"), .system = "",
     .default_system = true},
    /* Phi-3's control tokens swallow the white space behind them: the line ends of its template never become tokens. */
    {.name = "phi3", .turn = {{.head = "<|system|>", .tail = "<|end|>"}, {.head = "<|user|>", .tail = "<|end|>"},
        {.head = "<|assistant|>", .tail = "<|end|>"}},
     .answer = "<|assistant|>", .ends = {"<|end|>", "<|endoftext|>"}, .flags = SLM_CHAT_TRIM_LEFT},
    {.name = "phi4-mini", .turn = {{.head = "<|system|>", .tail = "<|end|>"}, {.head = "<|user|>", .tail = "<|end|>"},
        {.head = "<|assistant|>", .tail = "<|end|>"}},
     .answer = "<|assistant|>", .ends = {"<|end|>", "<|endoftext|>"}},
    {.name = "gemma", .turn = {{.after = "\n\n"}, {.head = "<start_of_turn>user\n", .tail = "<end_of_turn>\n"},
                               {.head = "<start_of_turn>model\n", .tail = "<end_of_turn>\n"}},
     .answer = "<start_of_turn>model\n", .ends = {"<end_of_turn>"}, .flags = SLM_CHAT_BOS | SLM_CHAT_TRIM | SLM_CHAT_SYSTEM_IN_FIRST},
    /* The larger models' templates answer for a model that is not to think with an empty thought. */
    {.name = "gemma4", GEMMA4, .answer = "<|turn>model\n"},
    {.name = "gemma4-thought", GEMMA4, .answer = "<|turn>model\n<|channel>thought\n<channel|>"},
    {.name = "llama2", .turn = {{.before = " <<SYS>>\n", .after = "\n<</SYS>>\n\n"}, {.head = "[INST]", .before = " ", .tail = " [/INST]"},
                                {.before = " ", .after = " ", .tail = "</s>"}},
     .ends = {"</s>"}, .flags = SLM_CHAT_BOS | SLM_CHAT_TRIM | SLM_CHAT_SYSTEM_IN_FIRST | SLM_CHAT_BOS_EACH},
    {.name = "mistral-v1", .turn = {{.before = " ", .after = "\n\n"}, {.head = "[INST]", .before = " ", .tail = " [/INST]"},
        {.before = " ", .tail = "</s>"}},
     .ends = {"</s>"}, .flags = SLM_CHAT_BOS | SLM_CHAT_SYSTEM_IN_FIRST},
    {.name = "mistral-v3", .turn = {{.after = "\n\n"}, {.head = "[INST]", .tail = "[/INST]"}, {.tail = "</s>"}},
     .ends = {"</s>"}, .flags = SLM_CHAT_BOS | SLM_CHAT_SYSTEM_IN_LAST},
    {.name = "mistral-v7", .turn = {{.head = "[SYSTEM_PROMPT]", .tail = "[/SYSTEM_PROMPT]"}, {.head = "[INST]", .tail = "[/INST]"},
        {.tail = "</s>"}},
     .ends = {"</s>"}, .flags = SLM_CHAT_BOS},
    {.name = "granite",
     .turn = {{.head = "<|start_of_role|>system<|end_of_role|>", .tail = "<|end_of_text|>\n"},
              {.head = "<|start_of_role|>user<|end_of_role|>", .tail = "<|end_of_text|>\n"},
              {.head = "<|start_of_role|>assistant<|end_of_role|>", .tail = "<|end_of_text|>\n"}},
     .answer = "<|start_of_role|>assistant<|end_of_role|>", .ends = {"<|end_of_text|>"}},
    {.name = "olmo2", .turn = {{.head = "<|system|>\n", .after = "\n"}, {.head = "<|user|>\n", .after = "\n"},
                               {.head = "<|assistant|>\n", .tail = "<|endoftext|>\n"}},
     .answer = "<|assistant|>\n", .ends = {"<|endoftext|>"}, .flags = SLM_CHAT_BOS},
    {.name = "zephyr", .turn = {{.head = "<|system|>\n", .tail = "</s>\n"}, {.head = "<|user|>\n", .tail = "</s>\n"},
        {.head = "<|assistant|>\n", .tail = "</s>\n"}},
     .answer = "<|assistant|>\n", .ends = {"</s>"}},
};
#define N_FORMATS (sizeof formats / sizeof formats[0])

const slm_chat_format *slm_chat_find(const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

const char *slm_chat_format_name(int i)
{
    return i >= 0 && (size_t) i < N_FORMATS ? formats[i].name : NULL;
}

const char *slm_chat_end_text(const slm_chat_format *format, int i)
{
    return i >= 0 && i < SLM_CHAT_MAX_ENDS ? format->ends[i] : NULL;
}
