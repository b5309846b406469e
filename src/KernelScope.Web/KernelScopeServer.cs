using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;
using KernelScope.Runtime;
using KernelScope.Web.Dashboards;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.ResponseCompression;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace KernelScope.Web;

/// <summary>A server of its own: what <c>kernelscope serve</c> runs. It reads no configuration of files or variables.</summary>
internal sealed class KernelScopeServer : IAsyncDisposable
{
    private const int MaxConnections = 256;
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);
    private readonly WebApplication _app;

    private KernelScopeServer(WebApplication app) => _app = app;

    /// <summary>The addresses that it listens on, ports included.</summary>
    public IReadOnlyList<string> Addresses =>
        [.. _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses];

    /// <summary>Starts a server.</summary>
    /// <param name="engine">What it serves; the caller's.</param>
    /// <param name="options">To whom.</param>
    /// <param name="urls">Where it listens.</param>
    /// <param name="log">Takes a line at a time; null: nothing is logged.</param>
    /// <param name="cancellationToken">Stops the start.</param>
    /// <exception cref="IOException">An address is taken.</exception>
    public static async Task<KernelScopeServer> StartAsync(
        KernelScopeEngine engine, KernelScopeWebOptions options, IReadOnlyList<string> urls, Action<string>? log,
        CancellationToken cancellationToken)
    {
        var names = new WebApplicationOptions { ApplicationName = "KernelScope.Web", EnvironmentName = "Production" };
        // Empty: what lies in the folder where somebody starts it is not for it.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(names);
        bool listens = false;
        if (log is not null)
            builder.Logging.AddProvider(new LineLogging(WriteOnceListening));
        builder.Logging.AddFilter("Microsoft", LogLevel.Error);
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.AddSingleton(engine);
        builder.Services.AddResponseCompression(o => o.Providers.Add<GzipCompressionProvider>());
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = Grace);
        builder.Services.AddRoutingCore();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(Limit);
        builder.WebHost.UseUrls([.. urls]);
        WebApplication app = builder.Build();
        app.UseResponseCompression();
        Pipeline? pipeline = null;
        // Before the router, which knows the methods of its paths only.
        app.Use(next => http => HttpMethods.IsOptions(http.Request.Method) ? pipeline!.Guarded(RefuseOptions)(http) : next(http));
        app.UseRouting();
        pipeline = KernelScopeEndpoints.Map(app, options);
        app.Use(next => async http =>
        {
            if (http.GetEndpoint() is not null)
                await next(http);
            else
                await pipeline.Guarded(RefusePath)(http);
        });
        app.Use(next => async http =>
        {
            await next(http);
            // The router's own refusals have no body.
            if (!http.Response.HasStarted && http.Response.StatusCode is StatusCodes.Status405MethodNotAllowed)
                await ErrorAnswer.WriteAsync(http, http.Response.StatusCode, ErrorAnswer.OtherMethod);
        });
        try
        {
            await app.StartAsync(cancellationToken);
            var server = new KernelScopeServer(app);
            if (RuntimeFeature.IsDynamicCodeSupported)
                await WarmAsync(new Uri(server.Addresses[0]), options.Secret, pipeline.Model, cancellationToken);
            listens = true;
            return server;
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }

        // What fails at the start is thrown: whoever started it says it, once.
        void WriteOnceListening(string line)
        {
            if (listens)
                log(line);
        }
    }

    /// <summary>Whether an address is one that only this machine reaches. Any name but localhost means all addresses to Kestrel.</summary>
    public static bool IsLoopback(Uri url) =>
        url.Host == "localhost" || (IPAddress.TryParse(url.Host.Trim('[', ']'), out IPAddress? address) && IPAddress.IsLoopback(address));

    /// <summary>Takes no more requests, and gives those that run five seconds.</summary>
    public async Task StopAsync()
    {
        using var grace = new CancellationTokenSource(Grace);
        await _app.StopAsync(grace.Token);
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    /// <summary>
    /// Asks for a stored page, or else for health, before anybody is told where the server listens and before it logs: with the JIT the
    /// first request compiles what answers all others. Whether that works does not matter. A native file has nothing to compile.
    /// </summary>
    private static async Task WarmAsync(Uri address, string? secret, ServedModel model, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Grace);
        string host = address.Host is "0.0.0.0" or "[::]" ? "localhost" : address.DnsSafeHost;
        string request = $"GET {StoredPage(model) ?? "/health"} HTTP/1.1\r\nHost: localhost:{address.Port}\r\nX-SECRET-KEY: {secret}\r\n" +
            "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n";
        try
        {
            using var client = new TcpClient();
            await client.ConnectAsync(host, address.Port, limit.Token);
            NetworkStream stream = client.GetStream();
            await stream.WriteAsync(Encoding.UTF8.GetBytes(request), limit.Token);
            await stream.CopyToAsync(Stream.Null, limit.Token);
        }
        catch (Exception e) when (e is SocketException or IOException || (e is OperationCanceledException && limit.IsCancellationRequested))
        {
            cancellationToken.ThrowIfCancellationRequested();
        }
    }

    private static string? StoredPage(ServedModel model)
    {
        foreach (ServedSource source in model.Sources)
        {
            if (model.DashboardOf(source) is DashboardFolder pages && Enumerable.Range(0, pages.Info.Features).Any(pages.Has))
                return $"/api/feature/{model.Id}/{source.Id}/{Enumerable.Range(0, pages.Info.Features).First(pages.Has)}";
        }

        return null;
    }

    private static Task RefusePath(HttpContext http) =>
        ErrorAnswer.WriteAsync(http, StatusCodes.Status404NotFound, ErrorAnswer.NoPath);

    private static Task RefuseOptions(HttpContext http) =>
        ErrorAnswer.WriteAsync(http, StatusCodes.Status405MethodNotAllowed, "OPTIONS is answered to pages of origins that were named.");

    private static void Limit(KestrelServerOptions kestrel)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxConcurrentConnections = MaxConnections;
        // More than is taken, so that who sends too much reads why.
        kestrel.Limits.MaxRequestBodySize = Call.MaxDiscarded;
        kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(15);
    }

    /// <summary>Signals are the program's business.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>A line for each entry.</summary>
    private sealed class LineLogging(Action<string> write) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public void Dispose()
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (!IsEnabled(logLevel))
                return;
            string time = DateTime.UtcNow.ToString("HH:mm:ss.fff", System.Globalization.CultureInfo.InvariantCulture);
            write($"{time} {formatter(state, exception)}{(exception is null ? "" : $" {exception.GetType().Name}: {exception.Message}")}");
        }
    }
}
