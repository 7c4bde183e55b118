package main
import ("testing";"context";"fmt";"time";"github.com/redis/go-redis/v9")
func TestLink(t *testing.T){
 r,err:=openRedis(""); if err!=nil{t.Fatal(err)}
 defer r.close()
 redis.SetLogger(discard{})
 for _,c:=range []*redis.Options{{},{MaxRetries:-1},{DialerRetries:1},{DialerRetries:1,MaxRetries:-1}} {
 c.Addr=r.link.addr(); c.ContextTimeoutEnabled=true
 r.link.mend()
 cl:=redis.NewClient(c)
 cl.Set(context.Background(),"a","b",0)
 r.link.cut()
 for range 4 { ctx,cancel:=context.WithTimeout(context.Background(),5*time.Second); st:=time.Now(); err:=cl.Get(ctx,"a").Err(); fmt.Println(c.MaxRetries,c.DialerRetries,time.Since(st),err); cancel() }
 for range 2 { ctx,cancel:=context.WithTimeout(context.Background(),5*time.Second); st:=time.Now(); _,err:=cl.Pipelined(ctx,func(p redis.Pipeliner)error{p.Get(ctx,"a");p.Get(ctx,"b");return nil}); fmt.Println("pipe",time.Since(st),err); cancel() }
 cl.Close() }
}
