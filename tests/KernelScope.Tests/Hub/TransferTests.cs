using System.Globalization;
using KernelScope.Files;
using KernelScope.Hub;

namespace KernelScope.Tests.Hub;

/// <summary>Networks that break, servers that cannot or will not, and bytes that are not what they should be.</summary>
public sealed class TransferTests : HubTest
{
    private string Partial => Blob + ".incomplete";

    [Fact]
    public async Task An_interrupted_transfer_goes_on_where_it_ended()
    {
        int[] cuts = [70_000, 30_000, 150_000];
        int request = 0;
        Storage.Alter = (r, reply) => r.IsContent && request++ < cuts.Length ? reply with { CutAfter = cuts[request - 1] } : reply;
        HubSnapshot snapshot = await PullAsync();
        AssertWhole();
        Assert.Equal([null, "bytes=70000-", "bytes=100000-", "bytes=250000-"], Storage.Contents.Select(r => r["Range"]));
        Assert.Equal(300_000, snapshot.Files[0].Received);
    }

    [Fact]
    public async Task A_cancelled_pull_keeps_what_came_and_the_next_one_goes_on()
    {
        using var stop = new CancellationTokenSource();
        Storage.Alter = (r, reply) => r.IsContent ? reply with { Pause = Task.Delay(Timeout.Infinite, stop.Token) } : reply;
        Task<HubSnapshot> pull = PullAsync(cancellationToken: stop.Token);
        while (!File.Exists(Partial) || new FileInfo(Partial).Length < 150_000)
            await Task.Delay(5);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => pull);
        Assert.Equal(150_000, new FileInfo(Partial).Length);
        Assert.Null(HubCache.FindFile(Hub.Repository, Sae, Environment));

        Storage.Alter = null;
        HubSnapshot next = await PullAsync();
        Assert.Equal(150_000, next.Files[0].Received);
        AssertWhole();
    }

    [Theory]
    [InlineData(100_000)]
    [InlineData(300_000)]
    [InlineData(400_000)]
    public async Task What_another_left_is_used_only_if_it_is_right(int length)
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Random(length + 1).AsSpan(1));
        await PullAsync();
        AssertWhole();
    }

    [Fact]
    public async Task A_whole_partial_file_is_only_checked()
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Hub.Files[Sae]);
        Assert.Equal(0, (await PullAsync()).Files[0].Received);
        Assert.Empty(Storage.Contents);
        AssertWhole();
    }

    [Fact]
    public async Task A_link_in_the_place_of_a_partial_file_is_not_followed()
    {
        string outside = Folder.Write("outside", "untouched");
        Directory.CreateDirectory(Path.GetDirectoryName(Partial)!);
        File.CreateSymbolicLink(Partial, outside);
        await PullAsync();
        AssertWhole();
        Assert.Equal("untouched", File.ReadAllText(outside));
    }

    [Fact]
    public async Task A_damaged_blob_is_fetched_again()
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Blob), "short");
        await PullAsync();
        AssertWhole();
    }

    [Fact]
    public async Task A_server_without_ranges_begins_anew()
    {
        Storage.Ranges = false;
        int request = 0;
        Storage.Alter = (r, reply) => r.IsContent && request++ < 2 ? reply with { CutAfter = 100_000 } : reply;
        await PullAsync();
        AssertWhole();
        Assert.Equal(3, Storage.Contents.Count());
    }

    [Fact]
    public async Task A_server_that_never_gets_further_is_given_up()
    {
        Storage.Ranges = false;
        Storage.Alter = (r, reply) => r.IsContent ? reply with { CutAfter = 100_000 } : reply;
        Assert.Contains("failed", await RefusalAsync<HubException>(), StringComparison.Ordinal);
        // The first one got further; then four retries.
        Assert.InRange(Storage.Contents.Count(), 5, 6);
        Assert.Null(HubCache.FindFile(Hub.Repository, Sae, Environment));
    }

    [Fact]
    public async Task A_range_that_is_not_satisfiable_begins_anew()
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Hub.Files[Sae].AsSpan(0, 1000));
        Storage.Alter = (r, reply) => r["Range"] is null ? reply : new HubReply(416, []);
        await PullAsync();
        AssertWhole();
    }

    [Theory]
    [InlineData("bytes 5-299999/300000")]
    [InlineData("bytes 1000-299999/300001")]
    [InlineData("nonsense")]
    public async Task Bytes_from_elsewhere_lead_to_one_attempt_from_the_first(string range)
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Hub.Files[Sae].AsSpan(0, 1000));
        Storage.Alter = (r, reply) => r["Range"] is null ? reply : new HubReply(206, reply.Body, ("Content-Range", range));
        await PullAsync();
        AssertWhole();
        Assert.Equal(["bytes=1000-", null], Storage.Contents.Select(r => r["Range"]));
    }

    [Theory]
    [InlineData("200 with the rest")]
    [InlineData("200 with the rest, without a length")]
    [InlineData("206 that says nothing")]
    [InlineData("206 from the first byte")]
    [InlineData("206 with too much")]
    [InlineData("206 with other bytes")]
    [InlineData("206 compressed")]
    [InlineData("204")]
    [InlineData("400")]
    [InlineData("403")]
    [InlineData("404")]
    public async Task Whatever_a_server_answers_to_a_request_for_the_rest_the_file_is_right_in_the_end(string answer)
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Hub.Files[Sae].AsSpan(0, 100_000));
        byte[] whole = Hub.Files[Sae], rest = whole[100_000..];
        var range = ("Content-Range", "bytes 100000-299999/300000");
        Storage.Alter = (r, reply) => r["Range"] is null ? reply : answer switch
        {
            "200 with the rest" => new HubReply(200, rest),
            "200 with the rest, without a length" => new HubReply(200, rest) { NoLength = true },
            "206 that says nothing" => new HubReply(206, rest),
            "206 from the first byte" => new HubReply(206, whole, ("Content-Range", "bytes 0-299999/300000")),
            "206 with too much" => new HubReply(206, [.. rest, 0], range),
            "206 with other bytes" => new HubReply(206, new byte[rest.Length], range),
            "206 compressed" => new HubReply(206, rest, range, ("Content-Encoding", "gzip")),
            _ => new HubReply(int.Parse(answer, CultureInfo.InvariantCulture), []),
        };
        await PullAsync();
        AssertWhole();
        Assert.InRange(Storage.Contents.Count(), 1, 3);
    }

    [Fact]
    public async Task What_is_there_is_kept_where_the_whole_is_refused_too()
    {
        Folder.Write(Path.GetRelativePath(Folder.Path, Partial), Hub.Files[Sae].AsSpan(0, 100_000));
        Storage.Alter = (r, reply) => r.IsContent ? new HubReply(403, []) : reply;
        await RefusalAsync<HubException>();
        Assert.Equal(Hub.Files[Sae][..100_000], File.ReadAllBytes(Partial));
    }

    [Fact]
    public async Task A_wrong_checksum_is_refused_and_removed()
    {
        Storage.Alter = (r, reply) => { reply.Body[299_000] ^= 1; return reply with { Body = [.. reply.Body] }; };
        Hub.Alter = Fixed(Hub.Files[Sae]);
        Assert.Contains("SHA-256", await RefusalAsync<InvalidDataException>(), StringComparison.Ordinal);
        AssertNothingKept();
        Assert.Single(Storage.Contents);
    }

    [Fact]
    public async Task A_wrong_git_hash_is_refused_and_removed()
    {
        Hub.Files["cfg.json"] = Random(200);
        Hub.Alter = (r, reply) => r.IsContent ? reply with { Body = Random(200)[..199] is var b ? [.. b, 0] : b } : reply;
        Exception e = await Assert.ThrowsAsync<InvalidDataException>(() => PullAsync(file: "cfg.json"));
        Assert.Contains("git SHA-1", e.Message, StringComparison.Ordinal);
        AssertNothingKept();
    }

    [Fact]
    public async Task More_bytes_than_announced_are_refused()
    {
        Storage.Alter = (r, reply) => reply with { Body = [.. reply.Body, 0] };
        Assert.Contains("300001", await RefusalAsync<InvalidDataException>(), StringComparison.Ordinal);
        Storage.Alter = (r, reply) => reply with { Body = [.. reply.Body, 0], NoLength = true };
        Assert.Contains("more than the 300000", await RefusalAsync<InvalidDataException>(), StringComparison.Ordinal);
        AssertNothingKept();
    }

    [Theory]
    [InlineData(500)]
    [InlineData(503)]
    [InlineData(429)]
    [InlineData(408)]
    public async Task Trouble_that_passes_is_waited_out(int status)
    {
        int request = 0;
        Hub.Alter = (r, reply) => request++ % 3 < 2 ? new HubReply(status, [], ("Retry-After", "0")) : reply;
        await PullAsync();
        AssertWhole();
        Assert.Equal(6, Hub.Requests.Count);
    }

    [Fact]
    public async Task Trouble_that_stays_is_said()
    {
        Hub.Alter = (r, reply) => new HubReply(503, []);
        Assert.Contains("status 503", await RefusalAsync<HubException>(), StringComparison.Ordinal);
        Assert.Equal(5, Hub.Requests.Count);
    }

    [Fact]
    public async Task A_server_that_falls_silent_is_left_in_time()
    {
        using var end = new CancellationTokenSource();
        Storage.Alter = (r, reply) => r.IsContent ? reply with { Pause = Task.Delay(Timeout.Infinite, end.Token) } : reply;
        string message = await RefusalAsync<HubException>(Options with { Timeout = TimeSpan.FromMilliseconds(300), Retries = 1 });
        Assert.Contains("did not answer", message, StringComparison.Ordinal);
        await end.CancelAsync();
    }

    [Fact]
    public async Task A_file_that_does_not_fit_on_the_disk_is_not_begun()
    {
        Hub.Alter = (r, reply) =>
            reply with
            {
                Headers =
                [.. reply.Headers.Select(h => h.Name == "X-Linked-Size" ? (h.Name, long.MaxValue.ToString(CultureInfo.InvariantCulture))
                    : h)]
            };
        Assert.Contains("make room", await RefusalAsync<HubException>(), StringComparison.Ordinal);
        Assert.Empty(Storage.Requests);
    }

    [Fact]
    public async Task Compressed_answers_are_refused()
    {
        Storage.Alter = (r, reply) => reply with { Headers = [("Content-Encoding", "gzip")] };
        Assert.Contains("compresses", await RefusalAsync<HubException>(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task No_server_is_one_sentence()
    {
        HubOptions options = Options;
        Hub.Stop();
        Assert.Contains("offline", await RefusalAsync<HubException>(options with { RetryDelay = TimeSpan.FromHours(1) }),
            StringComparison.Ordinal);
        Assert.Contains($"127.0.0.1:{options.Endpoint.Port}", await RefusalAsync<HubException>(options), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_cache_that_cannot_be_written_is_one_sentence()
    {
        Folder.Write("cache", "a file");
        Assert.Contains("cannot be written", await RefusalAsync<HubException>(), StringComparison.Ordinal);
    }

    // The storage changes its bytes in place; what the hub says of them stays.
    private Func<HubRequest, HubReply, HubReply> Fixed(byte[] bytes)
    {
        string etag = LocalHub.EtagOf(Sae, bytes);
        return (r, reply) => reply with { Headers = [.. reply.Headers.Select(h => h.Name == "X-Linked-Etag" ? (h.Name, etag) : h)] };
    }
}
