using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>Fine-tunes as people have them: added tokens, a chat template of the folder's own, text from editors.</summary>
public sealed class ChatTests
{
    private const string ChatMl =
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\\n{{ m['content'] }}<|im_end|>\\n{% endfor %}{% if "
            + "add_generation_prompt %}<|im_start|>assistant\\n{% endif %}";

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>The demo's model with two unused pieces renamed.</summary>
    private static string FineTune(TempFolder folder, string? template = null)
    {
        string model = folder.Copy(Fixtures.DemoModel, "model");
        folder.Write("model/added_tokens.json", Bytes("""{"<|im_start|>": 7, "<|im_end|>": 8}"""));
        if (template is not null)
            folder.Write("model/tokenizer_config.json", Bytes($"{{\"chat_template\": \"{template}\"}}"));
        return model;
    }

    private static int[] Plain(string text) => Program.Json("tokenize", text).Ints("ids");

    [Fact]
    public void Added_tokens_go_in_and_out_of_every_verb()
    {
        using var folder = new TempFolder();
        string model = FineTune(folder);
        Assert.Equal([7, 562], Program.Json("tokenize", "<|im_start|>user", "--model", model).Ints("ids"));
        Assert.Equal([2, 7, 562], Program.Json("run", "<|im_start|>user", "--model", model).Ints("tokens"));
        Assert.Equal("user<|im_start|>\n", Program.Run("tokenize", "--decode", "562,7", "--model", model).Output);
        string lines = folder.Write("lines.jsonl", [.. Encoding.UTF8.Preamble, .. Bytes("{\"text\": \"<|im_end|>\"}\n{\"ids\": [8]}\n")]);
        Assert.Equal("{\"ids\":[8],\"pieces\":[\"<|im_end|>\"]}\n{\"text\":\"<|im_end|>\"}\n",
            Program.Run("tokenize", "--jsonl", lines, "--model", model).Output);
        folder.Write("model/added_tokens.json", Bytes("""{"<|far|>": 4096}"""));
        Program.Run("run", "x", "--model", model).AssertFailed(1, "<|far|>", "4096");
        Program.Run("inspect", model).AssertFailed(1, "<|far|>", "4096");
    }

    [Fact]
    public void Chat_writes_the_folders_template_and_the_mark_that_ends_its_turns_is_not_text()
    {
        using var folder = new TempFolder();
        string model = FineTune(folder, ChatMl);
        JsonElement result = Program.Json("generate", "hi", "--chat", "--model", model, "--max-new-tokens", "2");
        Assert.Equal([2, 7, .. Plain("user\nhi"), 8, .. Plain("\n"), 7, .. Plain("assistant\n")], result.Ints("prompt_tokens"));
        string[] biased =
            ["generate", "hi", "--chat", "--model", model, "--max-new-tokens", "4", "--temperature", "0.001", "--logit-bias",
                "8=90", "--seed", "1"];
        JsonElement silent = Program.Json(biased);
        Assert.Equal([8, 8, 8, 8], silent.Ints("tokens"));
        Assert.Equal("", silent.GetProperty("text").GetString());
        Assert.Equal("\n", Program.Run(biased).Output);
    }

    [Fact]
    public void A_template_that_cannot_be_used_is_refused_and_never_replaced()
    {
        using var folder = new TempFolder();
        string model = FineTune(folder, "{{ messages | nofilter }}");
        Program.Run("generate", "hi", "--chat", "--model", model).AssertFailed(1, "tokenizer_config.json", "nofilter");
        Program.Run("inspect", model).AssertFailed(1, "tokenizer_config.json", "nofilter");
        Assert.Equal(1, Program.Run("doctor", "--model", model).ExitCode);
        Assert.Equal(0, Program.Run("generate", "hi", "--model", model, "--max-new-tokens", "1").ExitCode);
        folder.Write("model/tokenizer_config.json", Bytes("""{"chat_template": "{{ raise_exception('Not today') }}"}"""));
        Program.Run("generate", "hi", "--chat", "--model", model).AssertFailed(1, "tokenizer_config.json", "Not today");
        folder.Write("model/tokenizer_config.json",
            Bytes("""{"chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}"""));
        Program.Run("generate", "hi", "--chat", "--model", model).AssertFailed(1, "tokenizer_config.json", "steps");
    }

    [Fact]
    public void A_template_without_bos_is_told()
    {
        using var folder = new TempFolder();
        Outcome outcome =
            Program.Run("generate", "hi", "--chat", "--model", FineTune(folder, "{{ messages[0].content }}"), "--max-new-tokens", "1");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("BOS", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Text_of_an_instruction_tuned_model_is_without_the_token_that_ends_its_turn()
    {
        using var folder = new TempFolder();
        string model = folder.Copy(Fixtures.DemoModel, "model");
        foreach (string name in (string[])["config.json", "generation_config.json"])
        {
            string json = File.ReadAllText(folder.At($"model/{name}"));
            folder.Write($"model/{name}",
                Bytes(System.Text.RegularExpressions.Regex.Replace(json, "\"eos_token_id\": *1\\b", "\"eos_token_id\": [1, 107]")));
        }

        string[] question = ["generate", "What is a harbour?", "--chat", "--max-new-tokens", "60", "--model", model];
        JsonElement answer = Program.Json(question);
        Assert.Equal(107, answer.Ints("tokens")[^1]);
        Assert.Equal(answer.GetProperty("text").GetString() + "\n", Program.Run(question).Output);
        Assert.DoesNotContain("end_of_turn", answer.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.DoesNotContain("end_of_turn", Program.Json([.. question, "--ignore-eos"]).GetProperty("text").GetString(),
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_without_tokenizer_model_runs_by_its_tokenizer_json()
    {
        using var folder = new TempFolder();
        string model = folder.Copy(Fixtures.DemoModel, "model");
        File.Delete(folder.At("model/tokenizer.model"));
        using (var packed =
            new System.IO.Compression.GZipStream(File.OpenRead(Fixtures.Path("text", "tokenizer.json.gz")),
                System.IO.Compression.CompressionMode.Decompress))
        using (FileStream file = File.Create(folder.At("model/tokenizer.json")))
            packed.CopyTo(file);
        Assert.Equal([2, .. Plain("She loved the river")], Program.Json("run", "She loved the river", "--model", model).Ints("tokens"));
        Assert.Equal(0, Program.Run("inspect", model).ExitCode);
        folder.Write("model/tokenizer.json", "{}"u8);
        Program.Run("run", "x", "--model", model).AssertFailed(1, "tokenizer.json", "model");
        Program.Run("inspect", model).AssertFailed(1, "tokenizer.json", "model");
    }

    [Fact]
    public void A_mark_before_a_text_is_dropped()
    {
        using var folder = new TempFolder();
        byte[] marked = [.. Encoding.UTF8.Preamble, .. Bytes("She loved the river")];
        int[] ids = Plain("She loved the river");
        Assert.Equal(ids, Program.Json("tokenize", "--file", folder.Write("text.txt", marked)).Ints("ids"));
        Assert.Equal(ids, Program.RunWith("\uFEFFShe loved the river", null, "tokenize", "-", "--json").Json().Ints("ids"));
        Assert.Equal([2, .. ids], Program.RunWith("\uFEFFShe loved the river", null, "run", "-", "--json").Json().Ints("tokens"));
    }
}
