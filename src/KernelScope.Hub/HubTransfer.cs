using System.Net.Http.Headers;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>
/// Receives one blob into ETAG.incomplete, where an interrupted download left off, and gives it its name once size and checksum are right. Holds the blob's lock all the while.
/// </summary>
internal sealed class HubTransfer : IDisposable
{
    private const int BufferSize = 1 << 20;
    private readonly HubHttp _http;
    private readonly HubRetry _retry;
    private readonly HubFileHead _head;
    private readonly HubSubject _subject;
    private readonly Uri _address;
    private readonly string _blob, _partial;
    private readonly Action<HubStep, long> _report;
    private readonly HubHash _hash;
    private readonly FileStream _stream;
    private readonly byte[] _buffer = new byte[BufferSize];
    private long _position, _furthest, _from;

    // Whether the next request may ask for the rest; no longer after an answer that did not fit.
    private bool _ranged = true;

    // Whether the bytes are from more than one answer.
    private bool _pieced;

    public HubTransfer(HubHttp http, HubOptions options, HubFileHead head, HubSubject subject, Uri address, string blob,
        Action<HubStep, long> report)
    {
        (_http, _retry, _head, _subject, _address, _blob, _report) = (http, new HubRetry(options), head, subject, address, blob, report);
        _partial = PartialOf(blob);
        // A link there would be written through, wherever it leads.
        if (new FileInfo(_partial).LinkTarget is not null || FileStatus.Of(_partial)?.Links > 1)
            File.Delete(_partial);
        _stream = new FileStream(_partial, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        _hash = new HubHash(head.Etag, head.Size);
    }

    /// <summary>Bytes that came over the network.</summary>
    public long Received { get; private set; }

    public static string PartialOf(string blob) => blob + ".incomplete";

    /// <summary>Bytes of a blob that an earlier download left.</summary>
    public static long LengthOf(string blob) => new FileInfo(PartialOf(blob)) is { Exists: true } file ? file.Length : 0;

    /// <summary>Receives what is missing, checks, and renames.</summary>
    /// <exception cref="HubException">The hub does not give it; what came is kept for the next time.</exception>
    /// <exception cref="InvalidDataException">What came is not what the hub says it is; it is removed.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        _pieced = Reread(cancellationToken);
        while (true)
        {
            while (_position < _head.Size)
                await ReceiveAsync(cancellationToken).ConfigureAwait(false);
            string found = _hash.Finish();
            if (found == _head.Etag)
                break;
            Restart();
            // What was left may have been another program's, or torn by a power cut, and a server may send other bytes than it says: the whole, from one answer, gets one chance.
            if (_pieced)
            {
                (_pieced, _ranged) = (false, false);
                continue;
            }

            Remove();
            throw BadFile.At(
                _subject.ToString(), $"what was received has the {_hash.Name} {found}, not {_head.Etag} as the hub says; it was removed.");
        }

        _stream.Flush(flushToDisk: true);
        _stream.Dispose();
        File.Move(_partial, _blob, overwrite: true);
        _report(HubStep.Done, _head.Size);
    }

    public void Dispose()
    {
        _stream.Dispose();
        _hash.Dispose();
        // Nothing came: nothing to keep.
        if (new FileInfo(_partial) is { Exists: true, Length: 0 })
            File.Delete(_partial);
    }

    private bool Reread(CancellationToken cancellationToken)
    {
        if (_stream.Length > _head.Size)
            _stream.SetLength(0);
        _stream.Position = 0;
        for (int read; (read = _stream.Read(_buffer)) > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _hash.Append(_buffer.AsSpan(0, read));
            _position += read;
            _report(HubStep.Rereading, _position);
        }

        _furthest = _position;
        return _position > 0;
    }

    private async Task ReceiveAsync(CancellationToken cancellationToken)
    {
        try
        {
            _from = _ranged ? _position : 0;
            using HttpResponseMessage answer = await _http.SendAsync(HttpMethod.Get, _address, _from, _subject, null, cancellationToken)
                .ConfigureAwait(false);
            if (!Accept(answer))
                return;
            using Stream body = await answer.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            Uri source = answer.RequestMessage!.RequestUri!;
            while (await ReadAsync(body, source, cancellationToken).ConfigureAwait(false) is int read and > 0)
            {
                if (!Write(read))
                    return;
            }

            if (_position < _head.Size)
                throw new HubTransientException(
                    $"{_subject}: {HubHttp.Shown(source)} ended the transfer at byte {_position} of {_head.Size}; what was received is "
                        + "kept.");
        }
        catch (HubTransientException e)
        {
            // Only bytes that were not there before are progress: a server that ignores ranges sends the same ones again and again.
            if (_position > _furthest)
                _retry.Progressed();
            _furthest = Math.Max(_furthest, _position);
            await _retry.WaitAsync(e, cancellationToken).ConfigureAwait(false);
        }
        catch (HubException) when (_from > 0)
        {
            // Refused where the rest was asked for; the whole may be had.
            _ranged = false;
        }
    }

    private Task<int> ReadAsync(Stream body, Uri source, CancellationToken cancellationToken) =>
        _http.UnderTimeoutAsync(limit => body.ReadAsync(_buffer, limit).AsTask(), _subject, source, cancellationToken);

    /// <summary>
    /// Whether the answer's bytes go on where the file ends, or begin anew, and then so does the file. An answer to a request for the rest that fits neither is followed by one request for the whole;
    /// what is there is kept until that is answered.
    /// </summary>
    private bool Accept(HttpResponseMessage answer)
    {
        if (Misfit(answer) is Exception misfit)
        {
            if (_from == 0)
                throw misfit;
            _ranged = false;
            return false;
        }

        if ((int)answer.StatusCode == 206 && answer.Content.Headers.ContentRange!.From == _position)
        {
            _pieced |= _position > 0;
            return true;
        }

        // A server that answers with the whole knows no ranges, whatever it says.
        _ranged &= _from == 0;
        Restart();
        return true;
    }

    /// <summary>Why an answer is of no use; null if it is.</summary>
    private Exception? Misfit(HttpResponseMessage answer)
    {
        if (answer.Content.Headers.ContentEncoding.Any(e => e != "identity"))
            return new HubException($"{_subject}: the server compresses what it sends although it was asked not to.");
        ContentRangeHeaderValue? range = answer.Content.Headers.ContentRange;
        return (int)answer.StatusCode switch
        {
            206 when range?.From is long from && (from == _from || from == 0) && (!range.HasLength || range.Length == _head.Size) => null,
            206 => new HubException(
                $"{_subject}: asked for the bytes from {_from} of {_head.Size} on, the server sends "
                    + $"{(range is null ? "it does not say which" : BadFile.Printable(range.ToString(), 100))}."),
            200 when answer.Content.Headers.ContentLength is long length && length != _head.Size =>
                BadFile.At(_subject.ToString(), $"the server sends {length} bytes, but said that there are {_head.Size}."),
            200 => null,
            _ => new HubException($"{_subject}: the server answers with status {(int)answer.StatusCode} instead of the file."),
        };
    }

    /// <summary>Takes bytes; false where there are more than the rest that was asked for, which then is not that rest.</summary>
    private bool Write(int count)
    {
        if (count > _head.Size - _position)
        {
            if (_from > 0)
            {
                _ranged = false;
                return false;
            }

            Remove();
            throw BadFile.At(_subject.ToString(),
                $"the server sends more than the {_head.Size} bytes that it said there are; what was received was removed.");
        }

        try
        {
            _stream.Write(_buffer, 0, count);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw new IOException($"{_subject}: {AtomicFile.Reason(e)}", e);
        }

        _hash.Append(_buffer.AsSpan(0, count));
        _position += count;
        Received += count;
        _report(HubStep.Receiving, _position);
        return true;
    }

    private void Restart()
    {
        if (_position == 0 && _stream.Length == 0)
            return;
        _stream.SetLength(0);
        _stream.Position = 0;
        _hash.Restart();
        _position = 0;
    }

    private void Remove()
    {
        _stream.Dispose();
        File.Delete(_partial);
    }
}
