using System.Text.Json;
using KernelScope.Chat;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>Conversations as a folder writes them: which template is taken, what becomes of special tokens, what is refused.</summary>
public class ChatFormatTests
{
    private const string ChatMl =
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if "
            + "add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    private static readonly ChatMessage[] Hi = [new("user", "hi")];

    [Fact]
    public void Gemmas_own_template_gives_the_ids_of_the_built_in_turns()
    {
        string template =
            File.ReadAllText(Path.Combine(TextFixtures.PathOf(""), "..", "..", "..", "tools", "reference", "text", "chat-template.jinja"));
        using TextFolder folder = TextFolder.WithModel().Write("chat_template.jinja", template);
        ChatFormat chat = Open(folder);
        Assert.Equal(107, chat.EndOfTurnId);
        int rows = 0;
        foreach (JsonElement row in TextFixtures.Rows("chat-cases.jsonl.gz"))
        {
            ChatMessage[] messages =
                [.. row.GetProperty("messages").EnumerateArray()
                    .Select(m => new ChatMessage(m.GetProperty("role").GetString()!, m.GetProperty("content").GetString()!))];
            bool prompt = row.GetProperty("add_generation_prompt").GetBoolean();
            if (row.TryGetProperty("error", out JsonElement error))
            {
                Exception refused = Assert.ThrowsAny<Exception>(() => chat.Encode(messages, prompt));
                Assert.True(refused is ArgumentException ? refused.Message == error.GetString()
                    : messages.Length == 0 && refused is InvalidDataException, refused.ToString());
            }
            else
            {
                Assert.Equal(row.GetProperty("text").GetString(), chat.Render(messages, prompt));
                Assert.Equal(row.Ids(), chat.Encode(messages, prompt));
            }

            rows++;
        }

        Assert.Equal(178, rows);
    }

    [Theory]
    [InlineData("tokenizer_config.json", "text")]
    [InlineData("tokenizer_config.json", "list")]
    [InlineData("chat_template.json", "text")]
    [InlineData("chat_template.jinja", "jinja")]
    public void A_folders_template_is_found_where_transformers_finds_it(string file, string form)
    {
        string quoted = JsonSerializer.Serialize(ChatMl);
        string content = form switch
        {
            "text" => $"{{\"chat_template\": {quoted}}}",
            "list" => $"{{\"chat_template\": [{{\"name\": \"tool_use\", \"template\": \"{{% nonsense %}}\"}}, {{\"name\": \"default\", "
                + $"\"template\": {quoted}}}]}}",
            _ => "\uFEFF" + ChatMl,
        };
        using TextFolder folder = TextFolder.WithModel().Write("added_tokens.json", """{"<|im_start|>": 7, "<|im_end|>": 8}""")
            .Write(file, content);
        ChatFormat chat = Open(folder);
        Assert.Equal(folder.At(file), chat.TemplatePath);
        Assert.Equal("<bos><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", chat.Render(Hi, addGenerationPrompt: true));
        int[] Plain(string text) => TextFixtures.Demo.Encode(text);
        Assert.Equal([2, 7, .. Plain("user\nhi"), 8, .. Plain("\n"), 7, .. Plain("assistant\n")],
            chat.Encode(Hi, addGenerationPrompt: true));
        Assert.Equal(8, chat.EndOfTurnId);
    }

    [Fact]
    public void The_file_of_its_own_goes_before_the_one_in_the_config()
    {
        using TextFolder folder = TextFolder.WithModel().Write("chat_template.jinja", "{{ 'own' }}")
            .Write("tokenizer_config.json", """{"chat_template": "{{ 'config' }}"}""");
        Assert.Equal("own", Open(folder).Render(Hi, addGenerationPrompt: false));
    }

    [Fact]
    public void Without_a_template_conversations_are_Gemmas_turns()
    {
        using TextFolder folder = TextFolder.WithModel()
            .Write("tokenizer_config.json", """{"bos_token": "<bos>", "chat_template": null}""");
        ChatFormat chat = Open(folder);
        Assert.Null(chat.TemplatePath);
        Assert.Equal(ChatTemplate.Encode(TextFixtures.Demo, Hi, addGenerationPrompt: true), chat.Encode(Hi, addGenerationPrompt: true));
        Assert.Equal(107, chat.EndOfTurnId);
    }

    [Fact]
    public void Control_tokens_are_those_that_the_template_writes_not_those_that_a_message_spells()
    {
        using TextFolder folder = TextFolder.WithModel()
            .Write("chat_template.jinja", "{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}");
        ChatFormat chat = Open(folder);
        Assert.Equal([2, .. TextFixtures.Demo.Encode("a<bos>b<eos>"), 1, 2, .. TextFixtures.Demo.Encode("\uFDD0"), 1],
            chat.Encode([new("user", "a<bos>b<eos>"), new("assistant", "\uFDD0")], addGenerationPrompt: true));
        Assert.Equal(1, chat.EndOfTurnId);
    }

    [Fact]
    public void Special_tokens_have_the_names_that_the_folder_gives_them()
    {
        using TextFolder folder = TextFolder.WithModel()
            .Write("special_tokens_map.json",
                """{"eos_token": {"content": "<end>"}, "sep_token": "<sep>", "pad_token": "<mine>", "additional_special_tokens": ["<x>"]}""")
            .Write("tokenizer_config.json",
                """{"chat_template": "{{ [bos_token, eos_token, unk_token, pad_token, sep_token, cls_token, additional_special_tokens] }}", "pad_token": null}""");
        Assert.Equal("['<bos>', '<end>', '<unk>', Undefined, '<sep>', Undefined, ['<x>']]",
            Open(folder).Render(Hi, addGenerationPrompt: false));
    }

    [Theory]
    [InlineData("{% if %}", "line 1", "")]
    [InlineData("a\nb{{ x | nofilter }}", "line 2", "nofilter")]
    [InlineData("{% include 'x' %}", "include", "")]
    public void A_template_that_cannot_be_used_is_refused_by_file_and_construct(string template, string word, string other)
    {
        using TextFolder folder = TextFolder.WithModel().Write("chat_template.jinja", template);
        string said = Assert.Throws<InvalidDataException>(() => Open(folder)).Message;
        Assert.StartsWith(folder.At("chat_template.jinja") + ": ", said, StringComparison.Ordinal);
        Assert.Contains(word, said, StringComparison.Ordinal);
        Assert.Contains(other, said, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"chat_template": 3}""", "the number 3")]
    [InlineData("""{"chat_template": [{"name": "tool_use", "template": "x"}]}""", "'tool_use'")]
    [InlineData("""{"chat_template": ["x"]}""", "chat_template[0]")]
    [InlineData("""{"chat_template": "x", "eos_token": 3}""", "eos_token")]
    public void A_config_that_cannot_be_meant_is_refused_by_its_field(string json, string word)
    {
        using TextFolder folder = TextFolder.WithModel().Write("tokenizer_config.json", json);
        Assert.Contains(word, Assert.Throws<InvalidDataException>(() => Open(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_failure_while_it_runs_names_the_file_and_the_line_and_a_refusal_is_the_templates_own_sentence()
    {
        using TextFolder folder = TextFolder.WithModel()
            .Write("chat_template.jinja",
                "a\n{% if messages|length > 1 %}{{ raise_exception('One turn only') }}{% endif %}\n{{ nothing.at.all }}");
        ChatFormat chat = Open(folder);
        string said = Assert.Throws<InvalidDataException>(() => chat.Encode(Hi, addGenerationPrompt: true)).Message;
        Assert.Contains("chat_template.jinja", said, StringComparison.Ordinal);
        Assert.Contains("line 3", said, StringComparison.Ordinal);
        Assert.Contains("'nothing'", said, StringComparison.Ordinal);
        Assert.Equal("One turn only", Assert.Throws<ArgumentException>(() => chat.Encode([.. Hi, .. Hi], addGenerationPrompt: true))
            .Message);
    }

    private static ChatFormat Open(TextFolder folder) => ChatFormat.Open(folder.Model, GemmaTokenizer.Open(folder.Model)!);
}
