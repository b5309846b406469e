using System.Text;
using KernelScope.Hub;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Hub;

/// <summary>Who gets the token, what a refusal says, and what a hostile server can make of names.</summary>
public sealed class TrustTests : HubTest
{
    [Fact]
    public async Task The_token_goes_to_the_hub_and_to_nobody_else()
    {
        await PullAsync();
        Assert.All(Hub.Requests, r => Assert.Equal("Bearer " + Token, r["Authorization"]));
        HubRequest there = Assert.Single(Storage.Requests);
        Assert.Null(there["Authorization"]);
        Assert.DoesNotContain(there.Headers, h => h.Value.Contains(Token, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_redirect_on_the_hub_itself_keeps_the_token()
    {
        Hub.Alter = (r, reply) => r.Path.Contains("/resolve/", StringComparison.Ordinal)
            && !r.Path.Contains("moved", StringComparison.Ordinal)
            ? new HubReply(307, [], ("Location", r.Path + "?moved=1")) : reply;
        await PullAsync();
        AssertWhole();
        Assert.All(Hub.Requests, r => Assert.Equal("Bearer " + Token, r["Authorization"]));
    }

    [Fact]
    public async Task A_mirror_that_sends_one_elsewhere_for_everything_shows_it_no_token()
    {
        using var mirror = new LocalHub();
        mirror.Alter = (r, reply) => new HubReply(308, [], ("Location", Hub.Address.AbsoluteUri.TrimEnd('/') + r.Path));
        await PullAsync(Options with { Endpoint = mirror.Address });
        AssertWhole();
        Assert.All(Hub.Requests, r => Assert.Null(r["Authorization"]));
        Assert.NotEmpty(Hub.Requests);
    }

    [Fact]
    public async Task Without_a_token_none_is_sent()
    {
        await PullAsync(Options with { Token = null });
        Assert.All(Hub.Requests, r => Assert.Null(r["Authorization"]));
    }

    [Theory]
    [InlineData("ftp://127.0.0.1/x")]
    [InlineData("file:///etc/passwd")]
    [InlineData(null)]
    public async Task A_redirect_to_no_address_is_refused(string? location)
    {
        Hub.Alter = (r, reply) => new HubReply(302, [], location is null ? [] : [("Location", location)]);
        Assert.Contains("redirects to no address", await RefusalAsync<HubException>(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Redirects_in_a_circle_end()
    {
        Hub.Alter = (r, reply) => new HubReply(302, [], ("Location", r.Path));
        Assert.Contains("more than 10 times", await RefusalAsync<HubException>(), StringComparison.Ordinal);
        Assert.Equal(11, Hub.Requests.Count);
    }

    [Theory]
    [InlineData(401, null, true, "does not accept the token")]
    [InlineData(401, "GatedRepo", true, "licence at")]
    [InlineData(401, null, false, "set HF_TOKEN")]
    [InlineData(401, "GatedRepo", false, "accept its licence at")]
    [InlineData(403, "GatedRepo", true, "accept the licence at")]
    [InlineData(404, "EntryNotFound", true, "no such file at revision 'main'")]
    [InlineData(404, "RevisionNotFound", true, "no revision 'main'")]
    [InlineData(404, "RepoNotFound", true, "no such repository")]
    [InlineData(418, null, true, "status 418")]
    public async Task A_refusal_says_what_to_do(int status, string? code, bool token, string words)
    {
        Hub.Alter = (r, reply) => new HubReply(status, Encoding.UTF8.GetBytes($"echo {r["Authorization"]}"), code is null ? []
            : [("X-Error-Code", code)]);
        Assert.Contains(words, await RefusalAsync<HubException>(Options with { Token = token ? Token : null }), StringComparison.Ordinal);
        // No retry: it will not pass.
        Assert.Single(Hub.Requests);
        AssertNothingKept();
    }

    [Fact]
    public async Task The_refusal_of_another_host_is_not_taken_for_the_hubs()
    {
        Storage.Alter = (r, reply) => new HubReply(403, []);
        string message = await RefusalAsync<HubException>();
        Assert.DoesNotContain("licence", message, StringComparison.Ordinal);
        Assert.Contains($"127.0.0.1:{Storage.Address.Port}", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../../../../outside")]
    [InlineData("/etc/passwd")]
    [InlineData("a/../../b")]
    [InlineData("..\\..\\outside")]
    [InlineData("a//b")]
    [InlineData("a/./b")]
    [InlineData("a\u0000b")]
    [InlineData("")]
    public async Task A_listing_with_hostile_names_is_refused_whole(string name)
    {
        Hub.Files["config.json"] = Random(10);
        Hub.Files["model.safetensors"] = Random(10);
        Hub.Files[name] = Random(10);
        using var client = new HubClient(Options);
        Exception e = await Assert.ThrowsAsync<InvalidDataException>(() => client.PullModelAsync(Hub.Repository, "main"));
        Sentences.Check(e.Message, Hub.Repository);
        Assert.Empty(FilesUnder(Folder.Path));
    }

    [Theory]
    [InlineData("../outside.npz")]
    [InlineData("/outside.npz")]
    [InlineData("a/../../outside.npz")]
    [InlineData("a\\b.npz")]
    [InlineData("C:/x.npz")]
    [InlineData("a/.. /x.npz")]
    [InlineData("a/")]
    [InlineData("")]
    public async Task A_name_that_leads_out_is_not_even_asked_for(string name)
    {
        await Assert.ThrowsAsync<ArgumentException>(() => PullAsync(file: name));
        Assert.Empty(Hub.Requests);
    }

    [Theory]
    [InlineData("../x", "main")]
    [InlineData("google/x/y", "main")]
    [InlineData("google/..", "main")]
    [InlineData("google/x", "../main")]
    [InlineData("google/x", "a/../../b")]
    [InlineData("google/x", "")]
    [InlineData("google/x", "a?b")]
    public async Task Repositories_and_revisions_are_checked_before_a_request(string repository, string revision)
    {
        using var client = new HubClient(Options);
        await Assert.ThrowsAsync<ArgumentException>(() => client.PullAsync(repository, revision, [Sae]));
        await Assert.ThrowsAsync<ArgumentException>(() => client.ListAsync(repository, revision));
        Assert.Empty(Hub.Requests);
    }

    [Theory]
    [InlineData("X-Repo-Commit", "../../../outside")]
    [InlineData("X-Repo-Commit", "..")]
    [InlineData("X-Linked-Etag", "\"../../outside\"")]
    [InlineData("X-Linked-Etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")]
    [InlineData("X-Linked-Etag", "")]
    [InlineData("X-Linked-Size", "-5")]
    public async Task What_a_server_says_of_a_file_is_checked(string header, string value)
    {
        Hub.Alter = (r, reply) => reply with { Headers = [.. reply.Headers.Select(h => h.Name == header ? (h.Name, value) : h)] };
        await RefusalAsync<HubException>();
        Assert.Empty(FilesUnder(Folder.Path));
    }

    [Fact]
    public async Task An_index_cannot_name_shards_elsewhere()
    {
        Hub.Files["config.json"] = Random(10);
        Hub.Files["model.safetensors.index.json"] = """{"weight_map": {"a": "../../outside.safetensors"}}"""u8.ToArray();
        using var client = new HubClient(Options);
        await Assert.ThrowsAsync<InvalidDataException>(() => client.PullModelAsync(Hub.Repository, "main"));
        Assert.DoesNotContain(Hub.Requests, r => r.Path.Contains("outside", StringComparison.Ordinal));
    }

    [Fact]
    public async Task All_files_are_of_one_commit()
    {
        Hub.Files["b/params.npz"] = Random(2000);
        string other = new('e', 40);
        Hub.Alter = (r, reply) => r.Path.Contains("/b/", StringComparison.Ordinal)
            ? reply with { Headers = [.. reply.Headers.Select(h => h.Name == "X-Repo-Commit" ? (h.Name, other) : h)] } : reply;
        using var client = new HubClient(Options);
        Exception e = await Assert.ThrowsAsync<InvalidDataException>(() => client.PullAsync(Hub.Repository, "main", [Sae, "b/params.npz"]));
        Assert.Contains(other, e.Message, StringComparison.Ordinal);
        // The second is asked for by the commit, not by the branch.
        Assert.Contains(Hub.Requests, r => r.Path.Contains($"/resolve/{LocalHub.Commit}/b/", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\"}")]
    [InlineData("{\"sha\": \"../x\", \"siblings\": []}")]
    [InlineData("{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{}]}")]
    [InlineData("<html>log in</html>")]
    public async Task A_listing_that_is_none_is_one_sentence(string json)
    {
        Hub.Alter = (r, reply) => new HubReply(200, Encoding.UTF8.GetBytes(json));
        using var client = new HubClient(Options);
        Sentences.Check((await Assert.ThrowsAsync<InvalidDataException>(() => client.ListAsync(Hub.Repository, "main"))).Message,
            Hub.Repository);
    }
}
