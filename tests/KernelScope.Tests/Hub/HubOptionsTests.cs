using KernelScope.Hub;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Hub;

/// <summary>What the environment says, as the hub's own library reads it.</summary>
public sealed class HubOptionsTests : IDisposable
{
    private readonly TempFolder _folder = new();

    [Fact]
    public void Defaults_are_those_of_the_hubs_library()
    {
        HubOptions options = Of(("HOME", "/home/u"));
        Assert.Equal(("https://huggingface.co/", "/home/u/.cache/huggingface/hub", null, true),
            (options.Endpoint.AbsoluteUri, options.CacheRoot, options.Token, options.UseLinks));
    }

    [Theory]
    [InlineData("HF_HUB_CACHE", "/c", "/c")]
    [InlineData("HUGGINGFACE_HUB_CACHE", "/c", "/c")]
    [InlineData("HF_HOME", "/h", "/h/hub")]
    [InlineData("XDG_CACHE_HOME", "/x", "/x/huggingface/hub")]
    [InlineData("HF_HUB_CACHE", "~/c", "/home/u/c")]
    public void The_cache_is_where_the_variables_say(string name, string value, string root) =>
        Assert.Equal(root, Of(("HOME", "/home/u"), (name, value)).CacheRoot);

    [Fact]
    public void The_token_is_HF_TOKEN_else_the_file()
    {
        _folder.Write("token", " hf_file\n");
        _folder.Write("other", "hf_other");
        (string, string) home = ("HF_HOME", _folder.Path);
        Assert.Equal("hf_file", Of(home).Token);
        Assert.Equal("hf_variable", Of(home, ("HF_TOKEN", "hf_variable\n")).Token);
        Assert.Equal("hf_old", Of(home, ("HUGGING_FACE_HUB_TOKEN", "hf_old")).Token);
        Assert.Equal("hf_other", Of(home, ("HF_TOKEN", " "), ("HF_TOKEN_PATH", _folder.At("other"))).Token);
        Assert.Null(Of(("HF_HOME", _folder.At("nowhere"))).Token);
    }

    [Theory]
    [InlineData("two words")]
    [InlineData("line\nbreak")]
    [InlineData("ümlaut")]
    public void A_token_that_cannot_be_one_is_refused_and_not_shown(string token)
    {
        string message = Assert.Throws<InvalidDataException>(() => Of(("HF_TOKEN", token))).Message;
        Sentences.Check(message, "HF_TOKEN");
        Assert.DoesNotContain(token[^4..], message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ftp://hub")]
    [InlineData("hub.example")]
    [InlineData("https://user:word@hub.example")]
    [InlineData("https://hub.example/?a=b")]
    public void An_endpoint_that_cannot_be_one_is_refused(string endpoint)
    {
        string message = Assert.Throws<InvalidDataException>(() => Of(("HF_ENDPOINT", endpoint))).Message;
        Assert.Contains("HF_ENDPOINT", message, StringComparison.Ordinal);
        Assert.DoesNotContain("word", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Offline_is_offline() =>
        Assert.Contains("HF_HUB_OFFLINE", Assert.Throws<InvalidDataException>(() => Of(("HF_HUB_OFFLINE", "1"))).Message,
            StringComparison.Ordinal);

    public void Dispose() => _folder.Dispose();

    private static HubOptions Of(params (string Name, string Value)[] variables) =>
        HubOptions.FromEnvironment(variables.ToDictionary(v => v.Name, v => v.Value).GetValueOrDefault);
}
