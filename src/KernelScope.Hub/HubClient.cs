using System.Text.Json;
using System.Text.RegularExpressions;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>
/// Downloads from a hub into the hub's own cache, where <see cref="ModelFolder.Resolve(string)"/> and <see cref="HubCache.FindFile"/> find it, and so do other programs.
/// Every file's size and checksum are checked; interrupted downloads go on where they ended; two downloads of one blob wait for each other; nothing is written outside the cache.
/// <para>
/// The protocol is the one that the hub's own library speaks (huggingface_hub, August 2026): GET /api/models/ID/revision/REV for the listing, HEAD /ID/resolve/REV/FILE for commit, ETag and size,
/// GET of the same with a Range.
/// </para>
/// </summary>
/// <remarks>Any number of threads may use it.</remarks>
/// <example>
/// <code>
/// using var hub = new HubClient(HubOptions.FromEnvironment(Environment.GetEnvironmentVariable));
/// HubSnapshot snapshot = await hub.PullModelAsync("google/gemma-2-2b", "main");
/// using var model = Gemma2Model.Open(device, snapshot.Path);
/// </code>
/// </example>
public sealed partial class HubClient : IDisposable
{
    private const int MaxListing = 1 << 26;
    private const string Config = "config.json", Single = "model.safetensors", Index = "model.safetensors.index.json";
    private static readonly string[] Optional =
    [
        "generation_config.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
            "chat_template.jinja", "chat_template.json",
    ];
    private readonly HubOptions _options;
    private readonly HubHttp _http;

    /// <summary>A client; it makes no request yet.</summary>
    public HubClient(HubOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _http = new HubHttp(options);
    }

    /// <summary>Whether a text is a hub id, owner/name.</summary>
    public static bool IsRepository(string text) => HubCache.EntryName(text) is not null;

    /// <summary>Whether a text is the path of a file or a folder inside a repository, which leads out of none.</summary>
    public static bool IsPath(string text) => HubName.IsSafe(text);

    /// <summary>What a repository holds.</summary>
    /// <exception cref="HubException">The hub does not say.</exception>
    /// <exception cref="InvalidDataException">The listing makes no sense, or has names that would lead out of a folder.</exception>
    public async Task<HubListing> ListAsync(string repository, string revision, CancellationToken cancellationToken = default)
    {
        Require(repository, revision);
        var subject = new HubSubject(repository, revision, null);
        var address = new Uri($"{_options.EndpointText}/api/models/{repository}/revision/{Uri.EscapeDataString(revision)}");
        byte[] json = await new HubRetry(_options).RunAsync(() => ReadAllAsync(address, subject, cancellationToken), cancellationToken)
            .ConfigureAwait(false);
        return Listing(json, subject);
    }

    /// <summary>
    /// Downloads a model: config.json, generation_config.json, the tokenizer (tokenizer.model, else tokenizer.json), its added tokens and chat template, and the weights as safetensors (model.safetensors, else the shards that the index names). Nothing else.
    /// </summary>
    /// <exception cref="HubException">The hub does not give a file.</exception>
    /// <exception cref="InvalidDataException">The repository holds no such model, or a file is not what the hub says it is.</exception>
    public async Task<HubSnapshot> PullModelAsync(
        string repository, string revision, IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        HubListing listing = await ListAsync(repository, revision, cancellationToken).ConfigureAwait(false);
        var there = listing.Files.ToHashSet(StringComparer.Ordinal);
        string weights = there.Contains(Single) ? Single : Index;
        if (!there.Contains(Config) || !there.Contains(weights))
            throw BadFile.At(repository,
                "this repository is not a model in safetensors: it has " +
                $"no {(there.Contains(Config) ? $"{Single} and no {Index}" : Config)}.");
        // tokenizer.json has 17 to 34 MB and is read only where there is no tokenizer.model.
        List<string> files = [Config, .. Optional.Where(there.Contains), .. there.Contains("tokenizer.model")
            || !there.Contains("tokenizer.json") ? [] : (string[])["tokenizer.json"], weights];
        if (weights == Index)
        {
            HubSnapshot index = await PullCoreAsync(repository, listing.Commit, listing.Commit, [Index], progress, cancellationToken)
                .ConfigureAwait(false);
            files.AddRange(ShardIndex.Read(index.Files[0].Path).Shards);
        }

        return await PullCoreAsync(repository, revision, listing.Commit, files, progress, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Downloads files of a repository, all of one commit.</summary>
    /// <exception cref="HubException">The hub does not give a file.</exception>
    /// <exception cref="InvalidDataException">A file is not what the hub says it is.</exception>
    /// <exception cref="ArgumentException">A name is none of a file in a repository.</exception>
    public Task<HubSnapshot> PullAsync(string repository, string revision, IReadOnlyList<string> files,
        IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        Require(repository, revision);
        ArgumentNullException.ThrowIfNull(files);
        if (files.Count == 0)
            throw new ArgumentException("No file is asked for.", nameof(files));
        if (files.FirstOrDefault(f => !HubName.IsSafe(f)) is string bad)
            throw new ArgumentException($"{BadFile.Quote(bad)} is not a path of a file inside a repository.", nameof(files));
        return PullCoreAsync(repository, revision, null, files, progress, cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    private async Task<HubSnapshot> PullCoreAsync(string repository, string revision, string? commit, IReadOnlyList<string> files,
        IProgress<HubProgress>? progress, CancellationToken cancellationToken)
    {
        var store = new HubStore(_options, repository);
        var heads = new List<HubFileHead>();
        foreach (string file in files)
        {
            HubFileHead head =
                await new HubRetry(
                    _options).RunAsync(() => HeadAsync(new HubSubject(repository, commit ?? revision, file), cancellationToken),
                    cancellationToken).ConfigureAwait(false);
            // The first answer says which commit a branch is; all others are of that commit, even if the branch moves meanwhile.
            commit ??= head.Commit;
            if (head.Commit != commit)
                throw BadFile.At($"{repository}/{file}",
                    $"the server gives it at commit {BadFile.Quote(head.Commit)}, not at {BadFile.Quote(commit)} as asked.");
            heads.Add(head);
        }

        try
        {
            store.RequireNoLinks(heads, revision);
            Int128 missing = store.RequireRoom(heads, repository), total = 0;
            foreach (HubFileHead head in heads)
                total += head.Size;
            if (heads.Count > 1 || heads[0].Name != Index)
                progress?.Report(
                    new HubProgress(repository, HubStep.Planned, (long)Int128.Max(0, total - missing),
                        (long)Int128.Min(total, long.MaxValue)));
            var done = new List<HubFile>();
            foreach (HubFileHead head in heads)
                done.Add(await FetchAsync(store, head, repository, progress, cancellationToken).ConfigureAwait(false));
            store.WriteReference(revision, commit!);
            return new HubSnapshot(repository, revision, commit!, store.SnapshotPath(commit!), done);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or (IOException and not HubException))
        {
            throw new HubException(
                $"{repository}: the cache {BadFile.Printable(_options.CacheRoot, 4096)} cannot be written "
                    + $"({BadFile.Printable(e.Message.TrimEnd('.'), 300)}); what was received is kept.", e);
        }
    }

    private async Task<HubFile> FetchAsync(HubStore store, HubFileHead head, string repository, IProgress<HubProgress>? progress,
        CancellationToken cancellationToken)
    {
        long received = 0;
        void Report(HubStep step, long done) => progress?.Report(new HubProgress(head.Name, step, done, head.Size));
        bool IsRight(string path) => HubStore.IsRight(path, head, done => Report(HubStep.Rereading, done), cancellationToken);
        if (_options.Verify || !store.Has(head) || !store.IsChecked(head))
        {
            using IDisposable taken = await HubLock.AcquireAsync(store.LockPath(head), () => Report(HubStep.Waiting, 0), cancellationToken)
                .ConfigureAwait(false);
            if (!store.HasBlob(head) || ((_options.Verify || !store.IsChecked(head)) && !IsRight(store.BlobPath(head))))
            {
                var subject = new HubSubject(repository, head.Commit, head.Name);
                using var transfer = new HubTransfer(_http, _options, head, subject, Address(subject), store.BlobPath(head), Report);
                await transfer.RunAsync(cancellationToken).ConfigureAwait(false);
                received = transfer.Received;
            }

            if (!store.Has(head) || (!store.IsLink(head) && !IsRight(store.FilePath(head))))
                store.Place(head);
            store.NoteChecked(head);
        }

        if (received == 0)
            Report(HubStep.Done, head.Size);
        return new HubFile(head.Name, store.FilePath(head), head.Size, head.Etag, received);
    }

    private async Task<HubFileHead> HeadAsync(HubSubject subject, CancellationToken cancellationToken)
    {
        string? commit = null, etag = null, size = null;
        bool Note(HttpResponseMessage answer)
        {
            commit ??= Header(answer, "X-Repo-Commit");
            etag ??= Header(answer, "X-Linked-Etag");
            size ??= Header(answer, "X-Linked-Size");
            // A redirect to where the bytes are: the hub has said all, and that place may not answer to HEAD.
            return (int)answer.StatusCode is >= 300 and < 400 && commit is not null && etag is not null && size is not null;
        }

        using HttpResponseMessage answer = await _http.SendAsync(HttpMethod.Head, Address(subject), 0, subject, Note, cancellationToken)
            .ConfigureAwait(false);
        etag ??= Header(answer, "ETag");
        long? bytes = long.TryParse(size, out long linked) && linked >= 0 ? linked : size is null ? answer.Content.Headers.ContentLength
            : null;
        if (commit is null || !HubCache.IsCommit(commit))
            throw new HubException(
                $"{subject}: {HubHttp.Shown(_options.Endpoint)} does not say which commit the file is of (X-Repo-Commit), so it is not a "
                    + "hub, or something between changes its answers.");
        // W/"..." is a weak ETag: the library of the hub takes it, and the checksum is checked anyway.
        string bare = (etag ?? "").Replace("W/", "", StringComparison.Ordinal).Trim('"').ToLowerInvariant();
        if (!HubHash.IsOne(bare))
            throw new HubException(
                $"{subject}: the server names neither a SHA-256 nor a git SHA-1 of it (its ETag is {BadFile.Quote(etag ?? "")}), so it "
                    + "could not be checked.");
        return new HubFileHead(subject.File!, commit, bare, bytes
            ?? throw new HubException($"{subject}: the server does not say how long it is."));
    }

    private async Task<byte[]> ReadAllAsync(Uri address, HubSubject subject, CancellationToken cancellationToken)
    {
        using HttpResponseMessage answer = await _http.SendAsync(HttpMethod.Get, address, 0, subject, null, cancellationToken)
            .ConfigureAwait(false);
        using Stream body = await answer.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        using var all = new MemoryStream();
        byte[] buffer = new byte[1 << 16];
        while (await _http.UnderTimeoutAsync(limit => body.ReadAsync(buffer, limit).AsTask(), subject, address, cancellationToken)
            .ConfigureAwait(false) is int read and > 0)
        {
            if (all.Length + read > MaxListing)
                throw BadFile.At(subject.ToString(), $"the listing has more than {MaxListing} bytes.");
            all.Write(buffer, 0, read);
        }

        return all.ToArray();
    }

    private static HubListing Listing(byte[] json, HubSubject subject)
    {
        string name = $"the hub's listing of {subject}";
        using JsonDocument document = JsonText.ParseObject(json, name);
        if (!document.RootElement.TryGetProperty("sha", out JsonElement sha) || sha.ValueKind != JsonValueKind.String
            || !HubCache.IsCommit(sha.GetString()!))
            throw BadFile.At(name, "it names no commit (sha).");
        if (!document.RootElement.TryGetProperty("siblings", out JsonElement siblings) || siblings.ValueKind != JsonValueKind.Array)
            throw BadFile.At(name, "it has no list of files (siblings).");
        var files = new List<string>();
        foreach (JsonElement sibling in siblings.EnumerateArray())
        {
            if (sibling.ValueKind != JsonValueKind.Object || !sibling.TryGetProperty("rfilename", out JsonElement file)
                || file.ValueKind != JsonValueKind.String)
                throw BadFile.At(name, "a file in it has no name (rfilename).");
            files.Add(file.GetString()!);
        }

        return files.FirstOrDefault(HubName.IsHostile) is string hostile
            ? throw BadFile.At(
                name, $"it holds the name {BadFile.Quote(hostile)}, which leads out of the folder; nothing is downloaded from there.")
            : new HubListing(sha.GetString()!, files);
    }

    private Uri Address(HubSubject subject) =>
        new($"{_options.EndpointText}/{subject.Repository}/resolve/"
            + $"{Uri.EscapeDataString(subject.Revision)}/{HubName.Escape(subject.File!)}");

    private static void Require(string repository, string revision)
    {
        ArgumentNullException.ThrowIfNull(repository);
        ArgumentNullException.ThrowIfNull(revision);
        if (!IsRepository(repository))
            throw new ArgumentException($"{BadFile.Quote(repository)} is not a hub id; one is like google/gemma-2-2b.", nameof(repository));
        if (!Branch().IsMatch(revision) || !HubName.IsSafe(revision))
            throw new ArgumentException($"{BadFile.Quote(revision)} is not a revision: a branch, a tag or a commit.", nameof(revision));
    }

    private static string? Header(HttpResponseMessage answer, string name) =>
        answer.Headers.NonValidated.TryGetValues(name, out System.Net.Http.Headers.HeaderStringValues values)
            ? values.FirstOrDefault()?.Trim() : null;

    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,254}\z")]
    private static partial Regex Branch();
}
